"""Lucent's objectives: Lucid's, and those that differ. The sign is Lucid's: higher is better."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.compat.lucid.optvis.functions import Formula, only
from featureviz.compat.lucid.optvis.objectives import (
    Objective,
    alignment,
    as_objective,
    blur_input_each_step,
    channel,
    channel_interpolate,
    diversity,
    wrap_objective,
)
from featureviz.errors import InvalidInput
from featureviz.network.activations import Activations
from featureviz.objectives import algebra
from featureviz.objectives.leaves import Neuron

__all__ = [
    "Objective", "alignment", "as_objective", "blur_input_each_step", "channel", "channel_interpolate",
    "channel_weight", "direction", "direction_neuron", "diversity", "localgroup_weight", "neuron", "neuron_weight",
    "wrap_objective",
]  # fmt: skip


def neuron(
    layer: str, n_channel: int, x: int | None = None, y: int | None = None, batch: int | None = None
) -> algebra.Objective:
    """One unit at column x and row y, by default the centre. (Lucid's x is the row.)"""
    return only(Neuron(layer, n_channel, y, x), batch)


def direction(layer: str, direction: Any, batch: int | None = None) -> algebra.Objective:
    """The mean cosine of the activations and a direction; Lucid's is a dot product."""

    def score(a: Activations, v: Tensor) -> Tensor:
        t = a.channels_first(layer)
        return F.cosine_similarity(t.flatten(2), v.view(1, -1, 1), dim=1).mean(1)

    return only(Formula(f"direction({layer})", [layer], score, _vector(direction)), batch)


def direction_neuron(
    layer: str, direction: Any, x: int | None = None, y: int | None = None, batch: int | None = None
) -> algebra.Objective:
    """The cosine at one place."""

    def score(a: Activations, v: Tensor) -> Tensor:
        return F.cosine_similarity(_place(a.channels_first(layer), x, y), v[None], dim=1)

    return only(Formula(f"direction_neuron({layer})", [layer], score, _vector(direction)), batch)


def channel_weight(layer: str, weight: Any, batch: int | None = None) -> algebra.Objective:
    """``mean (a * weight)`` over channels and places."""

    def score(a: Activations, w: Tensor) -> Tensor:
        return (a.channels_first(layer).flatten(2) * w.view(1, -1, 1)).flatten(1).mean(1)

    return only(Formula(f"channel_weight({layer})", [layer], score, _vector(weight)), batch)


def neuron_weight(
    layer: str, weight: Any, x: int | None = None, y: int | None = None, batch: int | None = None
) -> algebra.Objective:
    """``mean (a * weight)`` over channels, at one place."""

    def score(a: Activations, w: Tensor) -> Tensor:
        return (_place(a.channels_first(layer), x, y) * w).mean(1)

    return only(Formula(f"neuron_weight({layer})", [layer], score, _vector(weight)), batch)


def localgroup_weight(
    layer: str,
    weight: Any,
    x: int | None = None,
    y: int | None = None,
    wx: int = 1,
    wy: int = 1,
    batch: int | None = None,
) -> algebra.Objective:
    """``mean (a * weight)`` over channels and ``wx`` columns and ``wy`` rows, from column x and row y."""

    def score(a: Activations, w: Tensor) -> Tensor:
        t = a.channels_first(layer)
        top, left = (t.shape[2] // 2 if y is None else y), (t.shape[3] // 2 if x is None else x)
        part = t[:, :, top : top + wy, left : left + wx]
        return (part.flatten(2) * w.view(1, -1, 1)).flatten(1).mean(1)

    return only(Formula(f"localgroup_weight({layer})", [layer], score, _vector(weight)), batch)


def _place(t: Tensor, x: int | None, y: int | None) -> Tensor:
    return t[:, :, t.shape[2] // 2 if y is None else y, t.shape[3] // 2 if x is None else x]


def _vector(values: Any) -> Tensor:
    vector = torch.as_tensor(values, dtype=torch.float32).detach().flatten().clone()
    if not vector.numel() or not bool(vector.isfinite().all()):
        raise InvalidInput(f"a vector of shape {list(vector.shape)} was given; expected [C], of finite numbers")
    return vector
