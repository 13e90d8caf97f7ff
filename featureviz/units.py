"""Units of a layer as they are given: an index, or one an image."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from featureviz.errors import InvalidInput

Units = int | Sequence[int]


def as_units(unit: Units, who: str) -> tuple[tuple[int, ...], str]:
    """Plain integers, of whatever kind they were (numpy, torch), and how they are written."""
    try:
        units, written = _indices(unit)
    except TypeError:
        units, written = (), ""
    if not units or min(units) < 0 or max(units) >= 1 << 31:
        raise InvalidInput(f"{who} got unit {unit!r}; expected an index from 0, or a list of them")
    return units, written


def chosen(units: Sequence[int], images: Sequence[int]) -> Units:
    """The units of those images; of one image, its unit."""
    each = [units[i] for i in images]
    return each[0] if len(each) == 1 else each


def _indices(unit: Units) -> tuple[tuple[int, ...], str]:
    try:
        one = operator.index(unit)  # pyright: ignore[reportArgumentType] - raises TypeError for lists
    except TypeError:
        several = tuple(operator.index(u) for u in unit)  # pyright: ignore[reportGeneralTypeIssues]
        return several, str(list(several))
    return (one,), str(one)
