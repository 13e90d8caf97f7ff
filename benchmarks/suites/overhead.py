"""featureviz' whole step against the bare forward and backward to the input of the same truncated network.

Three sides in one process: the step; the network as featureviz runs it, folded and in its memory format, with the
objective's gradient to the views; and the network as its user has it, cut at the same layer, its weights frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import featureviz as fv
from benchmarks.contenders.base import MEAN, STD, Task
from benchmarks.contenders.featureviz import ascent as built
from benchmarks.options import Options, told
from benchmarks.rounds import clock, group, interleaved
from benchmarks.tables import matrix
from benchmarks.workload import LAYERS, units

BATCHES, WARMUP = (1, 16), 20  # the first 16 steps redirect gradients and take longer
STEP, BARE, USERS = (
    "featureviz' step",
    "the bare network, as featureviz runs it",
    "the bare network, as its user has it",
)


def bare(ascent: fv.Ascent) -> Callable[[], None]:
    """Forward to the layer, the score, its gradient to the views, in the same parts: what no step can do without."""
    views = ascent.model.noise_images(len(ascent.image))

    def step() -> None:
        for part in ascent.microbatches:
            seen = views[part.images].requires_grad_()
            score = ascent.objective(ascent.executor(seen, part.rows))
            torch.autograd.grad(score.sum(), seen)

    return step


def users(task: Task) -> Callable[[], None]:
    """The same work on the network that torchvision builds, written by hand."""
    net: Any = task.network().requires_grad_(False)
    executor = net.features[: int(task.layer.split(".")[1]) + 1]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    views = torch.rand(len(task.units), 3, task.input, task.input).requires_grad_()
    rows, index = torch.arange(len(task.units)), torch.tensor(task.units)

    def step() -> None:
        seen = executor((views - mean) / std)
        torch.autograd.grad(seen[rows, index].mean((1, 2)).sum(), views)

    return step


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    rounds, groups = options.rounds(9), {}
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        for n in BATCHES:
            task = options.task(layer=layer, units=units(layer, n))
            ascent = built(task)
            sides = {STEP: ascent.step, BARE: bare(ascent), USERS: users(task)}
            steps = max(1, 16 // n)
            for side in sides.values():
                clock(side, WARMUP)
            per_image = 1000 / (steps * n)
            timed = {
                name: lambda side=side, steps=steps, per_image=per_image: per_image * clock(side, steps)
                for name, side in sides.items()
            }
            taken = interleaved(timed, rounds)
            groups[f"{layer}, N = {n}"] = group(taken, "ms per image-step", baseline=BARE, task=told(task))
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    return matrix(result, list(result["groups"]), corner="ms per image-step; times the bare network")
