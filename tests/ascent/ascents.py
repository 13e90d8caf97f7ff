"""Ascents to capture and look into, and what they hold in memory."""

from typing import Any

import torch
from torch import Tensor

import featureviz as fv
from featureviz.lab import GateStatistics
from featureviz.transform import Noise, robust

OPTIMIZERS: dict[str, Any] = {
    "adam": fv.Adam(0.05), "nadam": lambda leaves: torch.optim.NAdam(leaves, lr=0.05),
    "sgd": lambda leaves: torch.optim.SGD(leaves, lr=0.5, momentum=0.9, dampening=0.5),
    "rmsprop": lambda leaves: torch.optim.RMSprop(leaves, lr=0.01, momentum=0.5),
}  # fmt: skip


@fv.objective
def towards(a: Tensor, target: Tensor, power: float = 1.0) -> Tensor:
    """A dot product with a tensor that moves with it."""
    return (a.mean((2, 3)) @ target) * power


def natural_of(model: fv.TappedModel, power: int = 1) -> GateStatistics:
    return GateStatistics.measure(
        model, [torch.rand(32, 3, 24, 24, generator=torch.Generator().manual_seed(1)) ** power]
    )


def ascent_of(model: fv.TappedModel, goal: fv.Objective | str, n: int = 2, **options: Any) -> fv.Ascent:
    goal = fv.parse(goal) if isinstance(goal, str) else goal
    size = options.pop("size", 24)
    image = options.pop("image", None) or fv.FourierImage(n, size, seed=options.get("seed", 0))
    how = {name: options.pop(name) for name in ("redirect", "precision", "compile") if name in options}
    runtime = fv.Runtime(**{"redirect": 0, "compile": False, **how})
    return fv.Ascent(
        model, goal, image, **{"transforms": [*robust(), Noise()], "views": 2, "runtime": runtime, **options}
    )


def halved(ascent: fv.Ascent, times: int) -> fv.Ascent:
    for _ in range(times):
        assert ascent.halve()
    return ascent
