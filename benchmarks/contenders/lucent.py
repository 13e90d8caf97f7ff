"""Lucent, the port of Lucid to PyTorch."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar, final

import kornia
import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders.base import Contender, Task, Unsupported

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

# Imported here so that the time of building does not include it. If it is missing, building raises the error.
with suppress(ModuleNotFoundError):
    import_module("lucent.optvis.render")


def load_lucent() -> list[Any]:
    """Lucent's modules objectives, param, render and transform; adds to kornia two old names that they use."""
    setattr(kornia, "get_rotation_matrix2d", kornia.geometry.transform.get_rotation_matrix2d)  # noqa: B010
    setattr(kornia, "warp_affine", kornia.geometry.transform.warp_affine)  # noqa: B010
    return [import_module(f"lucent.optvis.{name}") for name in ("objectives", "param", "render", "transform")]


@final
class Lucent(Contender):
    """``render_vis`` with its defaults, all images in one batch.

    - View: one of every image, with the same draw for the whole batch. Pad by 12, jitter, scale, rotate, jitter; each
      resamples the image again. Then upsample to ``task.input``, as Lucent does for all images below 224 px.
    - Network: runs to its end, with a hook on every module. Its weights get gradients, which Lucent never clears.
    - Image: Fourier, decorrelated colours, Adam.
    - Differences: no progress bar and no intermediate pictures. An error of the network is raised; Lucent ignores it.

    Lucent always puts its images on a GPU if there is one.
    """

    notes: ClassVar[str] = "one batch, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("torch-lucent", "kornia")

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        objectives, param, render, transform = load_lucent()
        self.net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002 - Lucent's transforms use this generator
        params, self.image = param.image(task.size, batch=len(task.units))
        self.optimizer = torch.optim.Adam(params, lr=task.lr)
        resize = torch.nn.Upsample(size=task.input, mode="bilinear", align_corners=True)
        self.view = transform.compose([*transform.standard_transforms, transform.normalize(), resize])
        self.taps = render.hook_model(self.net, self.image)
        layer = task.layer.replace(".", "_")
        self.loss = objectives.Objective.sum([objectives.channel(layer, u, batch=i) for i, u in enumerate(task.units)])

    def step(self) -> None:
        self.optimizer.step(self._closure)

    def _closure(self) -> Tensor:
        self.optimizer.zero_grad()
        self.net(self.view(self.image()))
        loss = self.loss(self.taps)
        loss.backward()
        return loss

    def images(self) -> Tensor:
        return self.image().detach().cpu()


@final
class LucentSingle(Contender):
    """``render_vis`` once for each unit, one image after the other, as in Lucent's documentation."""

    notes: ClassVar[str] = "one image at a time, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = Lucent.versions

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.tools = [Lucent(replace(task, units=(unit,))) for unit in task.units]

    def step(self) -> None:
        for tool in self.tools:
            tool.step()

    def images(self) -> Tensor:
        return torch.cat([tool.images() for tool in self.tools])


@final
class LucentKept(Contender):
    """Lucent in a process that keeps freed memory for reuse, as the steps of featureviz do.

    The environment variables ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_MAX_`` of glibc have the same effect.
    """

    notes: ClassVar[str] = "Lucent as it is, freed memory kept"
    versions: ClassVar[tuple[str, ...]] = Lucent.versions

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if not (mallopt and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(M_MMAP_MAX, 0)):
            raise Unsupported("the allocator of this system has no option to keep freed memory; glibc has one")
        self.tool = Lucent(task)

    def step(self) -> None:
        self.tool.step()

    def images(self) -> Tensor:
        return self.tool.images()
