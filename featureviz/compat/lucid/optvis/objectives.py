"""Lucid's objectives. Each is an objective of featureviz: ``[M]`` scores, one for each view of each image.

Lucid has one number for a batch. Here image i has its own score, which is what Lucid's formula gives for a batch of
this image alone; for ``diversity``, ``alignment`` and ``channel_interpolate`` the scores of all images add up to it.
With ``batch=i`` only image i is rewarded. The layer ``"input"`` is the view that the network gets; Lucid's is
the image before its transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featureviz.checks import finite, show, whole
from featureviz.compat.lucid.optvis import formulas
from featureviz.compat.lucid.optvis.functions import (
    Formula,
    FunctionOfT,
    InImage,
    bind,
    only,
)
from featureviz.errors import InvalidInput
from featureviz.network.activations import Activations
from featureviz.network.taps import ALPHA
from featureviz.objectives import algebra
from featureviz.objectives.leaves import Channel, DeepDream, Direction, Logit, Neuron

__all__ = [
    "L1", "L2", "FunctionOfT", "InImage", "Objective", "alignment", "as_objective", "bind", "blur_alpha_each_step",
    "blur_input_each_step", "channel", "channel_interpolate", "class_logit", "deepdream", "direction",
    "direction_cossim", "direction_neuron", "diversity", "input_diff", "neuron", "penalize_boundary_complexity",
    "tensor_direction", "total_variation", "wrap_objective",
]  # fmt: skip


class Objective:
    """``Objective(f, name, description)`` makes an objective of a function of T; ``Objective.sum`` adds several up."""

    def __new__(cls, objective_func: Callable[[Any], Any], name: str = "", description: str = "") -> algebra.Objective:
        return FunctionOfT(objective_func, name or description or getattr(objective_func, "__name__", "objective"))

    @staticmethod
    def sum(objs: Iterable[algebra.Objective]) -> algebra.Objective:
        """The sum of the objectives, without one sum in another."""
        return algebra.combine([(1.0, as_objective(o)) for o in objs])


def wrap_objective(require_format: str | None = None, handle_batch: bool = False) -> Callable[..., Any]:
    """A decorator for a function that makes functions of T, as Lucid's own objectives are written.

    ``T(layer)`` is a tensor ``[N,H,W,C]``, or ``[N,C]``; the layers that are asked for are learnt when it is rendered.
    """
    if require_format not in (None, "NHWC") or handle_batch:
        raise InvalidInput(
            f"wrap_objective({show(require_format)}, {show(handle_batch)}) was given; expected None or 'NHWC', False"
        )

    def decorate(make: Callable[..., Callable[[Any], Any]]) -> Callable[..., algebra.Objective]:
        def factory(*args: Any, **kwargs: Any) -> algebra.Objective:
            return FunctionOfT(make(*args, **kwargs), make.__name__)

        factory.__name__, factory.__doc__ = make.__name__, make.__doc__
        return factory

    return decorate


def as_objective(obj: Any) -> algebra.Objective:
    """An objective, a function of T, or a text ``"layer:unit"``."""
    if isinstance(obj, algebra.Objective):
        return obj
    if isinstance(obj, str):
        layer, colon, unit = obj.rpartition(":")
        if not colon or not unit.strip().isdecimal():
            raise InvalidInput(f"the objective {obj!r} was given; expected 'layer:unit', as 'mixed4a_pre_relu:476'")
        return channel(layer.strip(), int(unit))
    if callable(obj):
        return FunctionOfT(obj, getattr(obj, "__name__", "objective"))
    raise InvalidInput(f"the objective {show(obj)} was given; expected 'layer:unit', an objective or a function of T")


def neuron(
    layer_name: str, channel_n: int, x: int | None = None, y: int | None = None, batch: int | None = None
) -> algebra.Objective:
    """One unit at one place, by default the centre. As in Lucid, x is the row and y the column."""
    return only(Neuron(layer_name, channel_n, x, y), batch)


def channel(layer: str, n_channel: int, batch: int | None = None) -> algebra.Objective:
    """The mean of a channel."""
    return only(Channel(layer, n_channel), batch)


def direction(layer: str, vec: Any, cossim_pow: float = 0, batch: int | None = None) -> algebra.Objective:
    """A direction in channel space: ``mean (a.v) max(0.1, cos(a, v))^cossim_pow``."""
    return only(Direction(layer, vec, cossim_pow), batch)


direction_cossim = direction


def direction_neuron(
    layer_name: str,
    vec: Any,
    x: int | None = None,
    y: int | None = None,
    cossim_pow: float = 0,
    batch: int | None = None,
) -> algebra.Objective:
    """A direction at one place, by default the centre."""
    vector, power = _vector(vec), finite("cossim_pow", cossim_pow)

    def score(a: Activations, v: Tensor) -> Tensor:
        t = a.channels_first(layer_name)
        row, column = (t.shape[2] // 2 if x is None else x), (t.shape[3] // 2 if y is None else y)
        return formulas.dot_cossim(t[:, :, row, column], v[None], power)

    return only(Formula(f"direction_neuron({layer_name}, {x}, {y}, {power:g})", [layer_name], score, vector), batch)


def tensor_direction(layer: str, vec: Any, cossim_pow: float = 0, batch: int | None = None) -> algebra.Objective:
    """A direction at each place of a part around the centre: ``vec`` is ``[h,w,C]`` or ``[1,h,w,C]``."""
    target, power = _vector(vec), finite("cossim_pow", cossim_pow)
    target = target[0] if target.ndim == 4 and len(target) == 1 else target
    if target.ndim != 3:
        raise InvalidInput(f"tensor_direction got a vec of shape {list(target.shape)}; expected [h,w,C] or [1,h,w,C]")

    def score(a: Activations, v: Tensor) -> Tensor:
        t, wanted = a.channels_first(layer), v.movedim(-1, 0)[None]
        size = (min(t.shape[2], wanted.shape[2]), min(t.shape[3], wanted.shape[3]))
        dots = formulas.dot_cossim(formulas.centre_crop(t, size), formulas.centre_crop(wanted, size), power)
        return dots.flatten(1).mean(1)

    return only(Formula(f"tensor_direction({layer}, {power:g})", [layer], score, target), batch)


def deepdream(layer: str) -> algebra.Objective:
    """``mean a^2``."""
    return DeepDream(layer)


def total_variation(layer: str = "input") -> algebra.Objective:
    """The sum of the absolute differences of neighbours."""
    return Formula(f"total_variation({layer})", [layer], lambda a: formulas.total_variation(a.channels_first(layer)))


def L1(layer: str = "input", constant: float = 0) -> algebra.Objective:
    """``sum |a - constant|``."""
    return Formula(f"L1({layer}, {constant:g})", [layer], lambda a: formulas.l1(a.channels_first(layer), constant))


def L2(layer: str = "input", constant: float = 0, epsilon: float = 1e-6) -> algebra.Objective:
    """``sqrt(epsilon + sum (a - constant)^2)``."""
    return Formula(
        f"L2({layer}, {constant:g})", [layer], lambda a: formulas.l2(a.channels_first(layer), constant, epsilon)
    )


def blur_input_each_step() -> algebra.Objective:
    """``1/2 sum (x - blur(x))^2``, blur without gradient; with a negative weight it blurs what nothing sharpens."""
    return Formula("blur_input", ["input"], lambda a: formulas.blur_difference(a["input"]))


def blur_alpha_each_step() -> algebra.Objective:
    """The same of the alpha channel."""
    return Formula("blur_alpha", [ALPHA], lambda a: formulas.blur_difference(a[ALPHA]))


def channel_interpolate(layer1: str, n_channel1: int, layer2: str, n_channel2: int) -> algebra.Objective:
    """From one channel to another: image i of N has the weights ``1 - i / (N-1)`` and ``i / (N-1)``."""
    first, second = Channel(layer1, n_channel1), Channel(layer2, n_channel2)

    def score(a: Activations) -> Tensor:
        share = a.rows.image / max(1, len(a.rows.images) - 1)
        return (1 - share) * first(a) + share * second(a)

    name = f"channel_interpolate({layer1}, {n_channel1}, {layer2}, {n_channel2})"
    return Formula(name, [layer1, layer2], score, across_batch=True)


def penalize_boundary_complexity(
    shp: Sequence[int], w: int = 20, mask: Any = None, C: float = 0.5
) -> algebra.Objective:
    """Minus the detail and the contrast within ``w`` pixels of the edge, or where ``mask`` ``[H,W]`` is."""
    where = None if mask is None else _vector(mask)
    if where is not None and where.ndim != 2:
        where = where.reshape(where.shape[-3:-1]) if where.ndim in (3, 4) and where.shape[-1] == 1 else where[0]
    margin = whole("w", w, 1)
    given = [] if where is None else [where]
    return Formula(
        f"penalize_boundary_complexity({margin})", ["input"],
        lambda a, *m: formulas.boundary(a["input"], m[0] if m else None, margin, C), *given,
    )  # fmt: skip


def alignment(layer: str, decay_ratio: float = 2) -> algebra.Objective:
    """Neighbours in a series are alike: minus the squared differences of images up to 4 apart."""
    return Formula(
        f"alignment({layer}, {decay_ratio:g})", [layer],
        lambda a: formulas.alignment(a.views_first(layer), a.rows.views, decay_ratio), across_batch=True,
    )  # fmt: skip


def diversity(layer: str) -> algebra.Objective:
    """How alike the images are; with a negative weight they become different."""
    return Formula(
        f"diversity({layer})", [layer], lambda a: formulas.diversity(a.channels_first(layer), a.rows.views),
        across_batch=True,
    )  # fmt: skip


def input_diff(orig_img: Any) -> algebra.Objective:
    """``sqrt(mean (input - orig_img)^2)``; ``orig_img`` is ``[H,W,C]``."""
    target = _vector(orig_img)
    return Formula(
        "input_diff", ["input"],
        lambda a, v: (a["input"] - v.movedim(-1, -3)).square().flatten(1).mean(1).sqrt(), target,
    )  # fmt: skip


def class_logit(layer: str, label: int | str, batch: int | None = None) -> algebra.Objective:
    """The score of a class in a layer ``[N,K]``, by its index; or by its name, in the last layer."""
    return only(Logit(label) if isinstance(label, str) else Channel(layer, label), batch)


def _vector(values: Any) -> Tensor:
    given = torch.as_tensor(np.asarray(values), dtype=torch.float32)
    if not given.numel() or not bool(given.isfinite().all()):
        raise InvalidInput(f"{show(values)} was given; expected finite numbers")
    return given.clone()
