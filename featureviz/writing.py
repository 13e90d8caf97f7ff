"""How specs write layers and values, so that they can be read back."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

KINDS = ("gate", "gatevalue", "gated", "content", "hidden", "logit", "direction", "deepdream")  # words of a spec


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
