"""featureviz on the standard workload, with the plain recipe, which is that of Lucid and Lucent."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

import featureviz as fv
from benchmarks.contenders.base import MEAN, STD, Contender, Task
from featureviz.transform import robust

MAX_STEPS = 4096  # the ascent keeps a row of scores for each


def wrap_network(task: Task) -> fv.TappedModel:
    """The task's network, on the GPU if the process sees one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return fv.wrap(task.network(), mean=MEAN, std=STD, size=task.input).on(device)


def make_ascent(task: Task, model: fv.TappedModel | None = None, **options: Any) -> fv.Ascent:
    """The ascent that ``fv.render`` would build for the task with ``fv.plain()``."""
    image = fv.FourierImage(len(task.units), task.size, seed=task.seed)
    defaults = {
        "transforms": robust(), "optimizer": fv.Adam(task.lr), "runtime": fv.Runtime(compile=False), "steps": MAX_STEPS,
    }  # fmt: skip
    objective = fv.Channel(task.layer, list(task.units))
    return fv.Ascent(model or wrap_network(task), objective, image, seed=task.seed, **{**defaults, **options})


class FeaturevizBase(Contender):
    """Steps ``ascent``, which the final classes below build: abstract."""

    ascent: fv.Ascent

    def step(self) -> None:
        self.ascent.step()

    def images(self) -> Tensor:
        return self.ascent.images()


@final
class Featureviz(FeaturevizBase):
    """The library with the plain recipe."""

    notes: ClassVar[str] = "one batch, one view, network cut at the layer and folded, weights frozen"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ascent = make_ascent(task)


@final
class FeaturevizFast(FeaturevizBase):
    """The library with the optimizer of its preset ``fv.fast()``."""

    notes: ClassVar[str] = "the same with the optimizer of the fast preset"

    STEPS = 256  # the length of the preset's schedule; the learning rate is constant until its last quarter

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        preset = fv.fast(self.STEPS)["optimizer"]
        share = MAX_STEPS / self.STEPS
        schedule = fv.Scheduled(preset, lambda done: preset.schedule(min(1.0, share * done)))
        self.ascent = make_ascent(task, optimizer=schedule)


@final
class FeaturevizCompiled(FeaturevizBase):
    """The library with a compiled network; compilation is part of the first step without redirected gradients."""

    notes: ClassVar[str] = "the same with the network compiled, as in large galleries"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ascent = make_ascent(task, runtime=fv.Runtime(compile=True))
