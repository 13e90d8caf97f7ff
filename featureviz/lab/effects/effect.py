"""How far a change inside a network moves what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True)
class Effect:
    """Means over ``count`` images: ``change`` is ``|a - b| / |a|`` of a layer's activations before and after.

    Of class scores also ``divergence``, KL(before | after) in nats, and ``flipped``, the share of images whose first
    class is another.
    """

    count: int
    change: float
    divergence: float | None
    flipped: float | None

    @classmethod
    def of(cls, before: Tensor, after: Tensor, *, scores: bool) -> Effect:
        """Of activations ``[M,...]``; ``scores`` says that they are class scores ``[M,K]``.

        >>> import torch
        >>> Effect.of(torch.eye(2), torch.eye(2).flip(0), scores=True).flipped
        1.0
        """
        a, b = before.float().flatten(1), after.float().flatten(1)
        change = float(((a - b).norm(dim=1) / a.norm(dim=1).clamp(min=1e-12)).mean())
        if not scores:
            return cls(len(a), change, None, None)
        p, q = a.log_softmax(1), b.log_softmax(1)
        divergence = float((p.exp() * (p - q)).sum(1).mean())
        return cls(len(a), change, divergence, float((a.argmax(1) != b.argmax(1)).float().mean()))

    def with_(self, other: Effect) -> Effect:
        """Over the images of both."""
        n = self.count + other.count

        def mean(x: float | None, y: float | None) -> float | None:
            return None if x is None or y is None else (self.count * x + other.count * y) / n

        change = (self.count * self.change + other.count * other.change) / n
        return Effect(n, change, mean(self.divergence, other.divergence), mean(self.flipped, other.flipped))
