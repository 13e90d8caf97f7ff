"""The units of a layer that are most similar to one of them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Neighbour(NamedTuple):
    """Another unit of the same layer, and how similar it is: 1 for the same, 0 for unrelated, -1 for the opposite."""

    unit: int
    similarity: float


def nearest_units(similarity: Tensor, units: Tensor, column: int, k: int) -> list[Neighbour]:
    """The ``k`` of ``units`` ``[C]`` that are most similar to the one in this column, by ``similarity`` ``[C]``."""
    values, order = similarity.sort(descending=True, stable=True)
    pairs = zip(order.tolist(), values.tolist(), strict=True)
    return [Neighbour(int(units[c]), value) for c, value in pairs if c != column][:k]
