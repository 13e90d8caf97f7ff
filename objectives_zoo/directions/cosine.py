"""Lucid's product of a dot product and a power of the cosine."""

from __future__ import annotations

from torch import Tensor

EPSILON, FLOOR = 1e-4, 0.1  # Lucid's: a direction at more than 84 degrees still has a slope


def dot_cosine(a: Tensor, v: Tensor, power: float) -> Tensor:
    """``(a.v) max(0.1, cos(a, v))^power`` over the last axis.

    A power above 0 keeps the picture close to the direction: the dot product alone grows with anything in a that has
    a part along v.
    """
    dot = (a * v).sum(-1)
    if not power:
        return dot
    cosine = dot / ((a.norm(dim=-1) + EPSILON) * (v.norm(dim=-1) + EPSILON))
    return dot * cosine.clamp(min=FLOOR) ** power
