"""Names, values and units as text: how a spec writes them, so that it can be parsed again."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor

from featureviz.errors import InvalidInput

T = TypeVar("T")
Units = int | Sequence[int]  # one index, or one index for each image

KINDS = ("gate", "gatevalue", "gated", "pregate", "bottleneck", "logit", "direction", "deepdream")  # reserved in specs


def quote_layer(layer: str) -> str:
    """The layer's name for a spec: in quotes if the parser would otherwise read it as something else.

    >>> quote_layer("features.12"), quote_layer("conv-1")
    ('features.12', '"conv-1"')
    """
    plain = re.fullmatch(r"[\w.]*\w", layer) and layer not in KINDS
    return layer if plain else f'"{layer}"'


def format_value(value: Any) -> str:
    """A number in the shortest form that gives the same number again; any other value as its ``repr``."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, Tensor):
        return format_value(value.tolist())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(format_value, value))}]"
    return repr(value)


def parse_units(unit: Units, owner: str) -> tuple[tuple[int, ...], str]:
    """The indices as Python integers (numpy and torch integers are accepted), and their text for a spec.

    ``owner`` is the name that an error message gives to whoever received ``unit``.
    """
    try:
        units, text = _to_integers(unit)
    except TypeError:
        units, text = (), ""
    if not units or min(units) < 0 or max(units) >= 1 << 31:
        raise InvalidInput(f"{owner} got unit {unit!r}; expected an index from 0, or a list of them")
    return units, text


def select_entries(entries: Sequence[T], images: Sequence[int]) -> T | list[T]:
    """The entries of the given images: a list, or the entry itself if there is one image."""
    selected = [entries[i] for i in images]
    return selected[0] if len(selected) == 1 else selected


def _to_integers(unit: Units) -> tuple[tuple[int, ...], str]:
    try:
        index = operator.index(unit)  # pyright: ignore[reportArgumentType] - raises TypeError for lists
    except TypeError:
        indices = tuple(operator.index(u) for u in unit)  # pyright: ignore[reportGeneralTypeIssues]
        return indices, str(list(indices))
    return (index,), str(index)
