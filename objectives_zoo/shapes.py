"""What the entries share: activations by position, and the vectors that callers give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from featureviz import Activations, InvalidInput, checks

Vector = Sequence[float] | Tensor


def by_position(activations: Activations, layer: str) -> Tensor:
    """``[M,C,P]``: rows and columns of a map or the tokens of a transformer are P positions; a vector has one."""
    a = activations.channels_first(layer)
    return a.flatten(2) if a.ndim > 2 else a[:, :, None]


def at_place(activations: Activations, layer: str, y: int | None, x: int | None) -> Tensor:
    """``[M,C]``: the channels at row y, column x, by default at the centre (H//2, W//2); a vector's as they are."""
    a = activations.channels_first(layer)
    if a.ndim == 2 and y is None and x is None:
        return a
    if a.ndim != 4:
        raise InvalidInput(f"{layer!r} gives {list(a.shape)}, [M,C,...], which has no rows and columns to choose from")
    row, column = (a.shape[2] // 2 if y is None else y), (a.shape[3] // 2 if x is None else x)
    if row >= a.shape[2] or column >= a.shape[3]:
        size = f"{a.shape[2]}x{a.shape[3]}"
        raise InvalidInput(f"row {row}, column {column} is outside of {layer!r}, which is {size} here")
    return a[:, :, row, column]


def place(name: str, y: int | None, x: int | None) -> tuple[int | None, int | None]:
    """A row and a column, checked: both from 0, or neither."""
    if (y is None) != (x is None):
        raise InvalidInput(f"{name}: y={y}, x={x} was given; expected both, from 0, or neither")
    return (None, None) if y is None else (checks.whole(f"{name}: y", y), checks.whole(f"{name}: x", x))


def numbers(name: str, values: Any, ndim: int = 1) -> Tensor:
    """Numbers of a caller as a tensor of ``ndim`` dimensions, checked."""
    try:
        tensor = torch.as_tensor(values, dtype=torch.float32, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{name}: {checks.show(values)} was given; expected numbers: {error}") from None
    if tensor.ndim != ndim or not tensor.numel() or not bool(tensor.isfinite().all()):
        shape = list(tensor.shape)
        raise InvalidInput(f"{name} of shape {shape} was given; expected {ndim} dimensions of finite numbers")
    return tensor


def check_width(name: str, layer: str, given: int, channels: int) -> None:
    """An error unless a vector has a number for each channel of the layer."""
    if given != channels:
        raise InvalidInput(f"{name} has {given} numbers; {layer!r} has {channels} channels")
