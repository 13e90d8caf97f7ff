"""Names, values and units as text: how specs write them, so that they can be read back."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from featureviz.errors import InvalidInput

Units = int | Sequence[int]  # of a layer: an index, or one an image

KINDS = ("gate", "gatevalue", "gated", "pregate", "bottleneck", "logit", "direction", "deepdream")  # words of a spec


def named(layer: str) -> str:
    """A layer's name as specs write it: in quotes where it would be read as something else.

    >>> named("features.12"), named("conv-1")
    ('features.12', '"conv-1"')
    """
    plain = re.fullmatch(r"[\w.]*\w", layer) and layer not in KINDS
    return layer if plain else f'"{layer}"'


def written(value: Any) -> str:
    """A number as short as it can be read back from; anything else as Python writes it."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, Tensor):
        return written(value.tolist())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    return repr(value)


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
