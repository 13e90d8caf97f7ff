"""The whole step of featureviz against the bare forward and backward of the same truncated network.

Three sides in one process:

- the step;
- the bare network as featureviz runs it (folded, channels last), with the objective's gradient to the views;
- the bare network as its user has it, cut at the same layer, with frozen weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import featureviz as fv
from benchmarks.contenders.base import MEAN, STD, Task
from benchmarks.contenders.featureviz import make_ascent
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import interleave, make_group, time_steps
from benchmarks.harness.tables import tabulate
from benchmarks.harness.workload import LAYERS, select_units

BATCHES, WARMUP = (1, 16), 20  # the first 16 steps redirect gradients and take longer
STEP, BARE, USERS = (
    "featureviz' step",
    "the bare network, as featureviz runs it",
    "the bare network, as its user has it",
)


def make_bare_step(ascent: fv.Ascent) -> Callable[[], None]:
    """Forward to the layer, score, and gradient to the views, in the ascent's micro-batches: the minimum of a step."""
    views = ascent.model.noise_images(len(ascent.image))

    def step() -> None:
        for microbatch in ascent.microbatches:
            x = views[microbatch.images].requires_grad_()
            score = ascent.objective(ascent.executor(x, microbatch.rows))
            torch.autograd.grad(score.sum(), x)

    return step


def make_user_step(task: Task) -> Callable[[], None]:
    """The same computation written by hand on the network that torchvision builds."""
    net: Any = task.network().requires_grad_(False)
    truncated = net.features[: int(task.layer.split(".")[1]) + 1]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    views = torch.rand(len(task.units), 3, task.input, task.input).requires_grad_()
    rows, index = torch.arange(len(task.units)), torch.tensor(task.units)

    def step() -> None:
        activation = truncated((views - mean) / std)
        torch.autograd.grad(activation[rows, index].mean((1, 2)).sum(), views)

    return step


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    rounds, groups = options.choose_rounds(9), {}
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        for n in BATCHES:
            task = options.make_task(layer=layer, units=select_units(layer, n))
            ascent = make_ascent(task)
            steps = {STEP: ascent.step, BARE: make_bare_step(ascent), USERS: make_user_step(task)}
            count = max(1, 16 // n)
            for step in steps.values():
                time_steps(step, WARMUP)
            per_image = 1000 / (count * n)
            sides = {
                name: lambda step=step, count=count, per_image=per_image: per_image * time_steps(step, count)
                for name, step in steps.items()
            }
            times = interleave(sides, rounds)
            groups[f"{layer}, N = {n}"] = make_group(
                times, "ms per image-step", baseline=BARE, task=describe_task(task)
            )  # fmt: skip
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    return tabulate(result, list(result["groups"]), corner="ms per image-step; times the bare network")
