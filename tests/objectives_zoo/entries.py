"""The table of the zoo: each entry on a layer, the layouts that it is meant for, and what its optimum looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import featureviz as fv
import objectives_zoo as zoo
from featureviz.network.axes import Axes

Make = Callable[[str, int, Any], fv.Objective]  # of a layer, its channels and a picture
MAP, TOKENS, VECTOR, GATE, ALPHA = "map", "tokens", "vector", "gate", ".alpha"
SHAPES = {MAP: (6, 5, 4), TOKENS: (9, 6), VECTOR: (6,), GATE: (6,), ALPHA: (1, 5, 4)}
AXES = {"tokens": Axes.parse("n t c")}
ANY = (MAP, TOKENS, VECTOR)


@dataclass(frozen=True)
class Case:
    """An entry: how to make it, for which layouts, and whether ``x`` is its optimum, ``t`` being the picture's."""

    make: Make
    found: Callable[[Tensor, Tensor], bool]
    layouts: tuple[str, ...] = ANY
    smooth: bool = True  # whether its gradient is that of its value
    images: int = 1


def one(c: int, *values: float) -> list[float]:
    return [*values, *[0.0] * (c - len(values))]


def signs(x: Tensor, *_: Tensor) -> bool:
    """Channel 0 is up and channel 1 is down, of ``[M,C,P]``."""
    return bool(x[:, 0].mean() > 0.9 and x[:, 1].mean() < -0.9)


def at_centre(x: Tensor, _t: Tensor) -> bool:
    centre = x.unflatten(2, SHAPES[MAP][1:])[:, :, 2, 2] if x.shape[2] > 1 else x[:, :, 0]
    return signs(centre)


def near(value: float | None = None, within: float = 0.15) -> Callable[[Tensor, Tensor], bool]:
    """Whether x is the number, or the picture's activations."""
    return lambda x, t: bool((x - (t if value is None else value)).abs().mean() < within)


def flat(x: Tensor, _t: Tensor) -> bool:
    return bool(x.std(2).max() < 0.08)


def margin(x: Tensor, _t: Tensor) -> bool:
    grid = x.unflatten(2, SHAPES[MAP][1:])
    return bool((grid[:, :, [0, -1]] - 0.5).abs().mean() < 0.1)


def differ(x: Tensor, _t: Tensor) -> bool:
    gram = torch.nn.functional.normalize((x @ x.mT).flatten(1), dim=1)
    return bool((gram @ gram.T - torch.eye(len(x))).mean() < 0.08)


CASES: dict[str, Case] = {
    "alignment": Case(
        lambda layer, c, p: zoo.Alignment(layer), lambda x, t: bool((x - x[:1]).abs().max() < 0.1), images=3
    ),
    "angled_neuron": Case(lambda layer, c, p: zoo.AngledNeuron(layer, one(c, 1, -1)), at_centre, (MAP, VECTOR)),
    "blur_each_step": Case(
        lambda layer, c, p: -zoo.blur_each_step(layer), lambda x, t: bool(x.std(2).max() < 0.1), (MAP,), smooth=False
    ),
    "boundary_complexity": Case(lambda layer, c, p: -zoo.boundary_complexity(layer, 1), margin, (MAP,)),
    "caricature": Case(
        lambda layer, c, p: zoo.Caricature(layer, p),
        lambda x, t: bool(torch.nn.functional.cosine_similarity(x.flatten(1), t.flatten(1)).min() > 0.7)
        and bool((x * t).sum() > (t * t).sum()),
    ),
    "channel_weights": Case(lambda layer, c, p: zoo.ChannelWeights(layer, one(c, 1, -1)), signs),
    "decay": Case(lambda layer, c, p: zoo.Decay(zoo.ChannelWeights(layer, one(c, 1, -1)), 10), signs),
    "deviation": Case(lambda layer, c, p: -zoo.Deviation(layer, p), near()),
    "direction_neuron": Case(
        lambda layer, c, p: zoo.DirectionNeuron(layer, one(c, 1, -1), power=2), at_centre, (MAP, VECTOR)
    ),
    "diversity": Case(lambda layer, c, p: zoo.Diversity(layer), differ, images=3),
    "feature_inversion": Case(lambda layer, c, p: zoo.FeatureInversion(layer, p), near()),
    "gate_mode": Case(lambda layer, c, p: zoo.GateMode("se", [0, 1], [1, -1]), signs, (GATE,)),
    "gram_style": Case(
        lambda layer, c, p: zoo.GramStyle(layer, p),
        lambda x, t: bool((x @ x.mT - t @ t.mT).abs().mean() < 0.2 * (t @ t.mT).abs().mean()),
    ),
    "input_diff": Case(lambda layer, c, p: -zoo.InputDiff(layer, p), near()),
    "interpolation": Case(
        lambda layer, c, p: zoo.interpolation(fv.Channel(layer, 0), -fv.Channel(layer, 1), 3),
        lambda x, t: bool(x[0, 0].mean() > 0.9 and x[2, 1].mean() < -0.9 and signs(x[1:2])),
        images=3,
    ),
    "isolated": Case(
        lambda layer, c, p: zoo.Isolated(layer, 1, [0.0] * c, [1.0] * c),
        lambda x, t: bool(x[:, 1].mean() > 0.9 and x[:, 2:].mean(2).abs().mean() < 0.1),
    ),
    "l1": Case(lambda layer, c, p: -zoo.l1(layer), near(0.5)),
    "l2": Case(lambda layer, c, p: -zoo.l2(layer), near(0.5)),
    "local_group": Case(
        lambda layer, c, p: zoo.LocalGroup(layer, one(c, 1, -1), 1, 1, 2, 2),
        lambda x, t: signs(x.unflatten(2, SHAPES[MAP][1:])[:, :, 1:3, 1:3].flatten(2)),
        (MAP,),
    ),
    "mean_style": Case(
        lambda layer, c, p: zoo.MeanStyle(layer, p), lambda x, t: bool((x.mean(2) - t.mean(2)).abs().mean() < 0.1)
    ),
    "neuron_weights": Case(lambda layer, c, p: zoo.NeuronWeights(layer, one(c, 1, -1)), at_centre, (MAP, VECTOR)),
    "only_after": Case(lambda layer, c, p: zoo.OnlyAfter(zoo.ChannelWeights(layer, one(c, 1, -1)), 3), signs),
    "penalize_alpha": Case(
        lambda layer, c, p: zoo.penalize_alpha(fv.Channel(layer, 0)),
        lambda x, t: bool((x[:, 0].mean() - (0.5 if x.shape[1] == 1 else 0.95)).abs() < 0.06),  # of a - a^2, and of a
        (*ANY, ALPHA),
    ),
    "rectified_direction": Case(
        lambda layer, c, p: zoo.RectifiedDirection(layer, one(c, 1, -1)),
        lambda x, t: bool(x[:, 0].max() > 0.9 and x[:, 1].max() < 0.1),
    ),
    "sorted_features": Case(
        lambda layer, c, p: zoo.SortedFeatures(layer, p),
        lambda x, t: bool((x.sort(2).values - t.sort(2).values).abs().mean() < 0.15),
    ),
    "sparse_channel": Case(
        lambda layer, c, p: zoo.sparse_channel(layer, 1),
        lambda x, t: bool(x[:, 1].mean() > 0.9 and x[:, 2:].abs().mean() < 0.1),
    ),
    "tensor_direction": Case(
        lambda layer, c, p: zoo.TensorDirection(layer, [[[v] * 2] * 2 for v in one(c, 1, -1)]),
        lambda x, t: signs(x.unflatten(2, SHAPES[MAP][1:])[:, :, 1:3, 1:3].flatten(2)),
        (MAP,),
    ),
    "total_variation": Case(lambda layer, c, p: -zoo.total_variation(layer), flat, (MAP,)),
    "veto": Case(
        lambda layer, c, p: zoo.veto("se", 1), lambda x, t: bool(x[:, 1].mean() < -0.9), (GATE,)
    ),
}  # fmt: skip


def make_rows(n: int, target: Tensor, views: int = 1) -> fv.Rows:
    """Rows of n images at step 5, beside which every picture has the activations ``target``, ``[1,...]``."""

    def see(pictures: Tensor, images: slice) -> fv.Activations:
        count = (images.stop - images.start) * views
        seen = {name: target.expand(count, *target.shape[1:]) for name in ("map", "tokens", "vector")}
        return fv.Activations(seen, fv.Rows.make(count), axes=AXES)

    return replace(fv.Rows.make(n, views), step=torch.tensor(5), see=see)


def make_acts(layout: str, x: Tensor, target: Tensor, views: int = 1) -> fv.Activations:
    """Activations of a layer that is called like its layout, half opaque; gates stand for a block's content too."""
    names = ("gate:se", "pregate:se") if layout == GATE else (layout,)
    tensors = {ALPHA: torch.full_like(x[:, :1].detach(), 0.5).reshape(len(x), -1)[:, :1, None, None]}
    tensors |= {name: x if name != "pregate:se" else -x.detach() * 0 for name in names}
    return fv.Activations(tensors, make_rows(len(x) // views, target, views), axes=AXES)
