"""torch-dreams, whose images of a batch are parameters of their own."""

from __future__ import annotations

import random
import warnings
from contextlib import suppress
from importlib import import_module
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import transforms

from benchmarks.contenders.base import Contender, Task

# Imported here so that building does not pay for it; where it is missing, building says so. When imported it silences
# every warning of the process: undone.
with suppress(ModuleNotFoundError), warnings.catch_warnings():
    import_module("torch_dreams")


@final
class TorchDreams(Contender):
    """``Dreamer.render`` with ``BatchedAutoImageParam`` and ``BatchedObjective``: its own way of a batch.

    A step shows the network one view of every image, the same draw for the whole batch: normalised, rotated by up to 15
    degrees, resized by 0.5 to 1.2 along each axis. torch-dreams would leave it at that size; its
    ``set_custom_transforms`` adds a resize to ``task.input``, so that all networks work alike. The network runs whole
    and its weights get gradients too, never cleared. Every image is a Fourier image of its own (decorrelated colours)
    with its own inverse FFT, clipping of the gradient to norm 1 and AdamW; without decay, as here by default, that is
    Adam. torch-dreams' ``render`` offers no other optimizer; its default rate is 0.009, and 0.05 climbs as fast.
    """

    notes: ClassVar[str] = "one batch of separate images, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("torch-dreams",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        tool, params, objectives, utils = (
            import_module(f"torch_dreams.{name}")
            for name in ("dreamer", "batched_image_param", "batched_objective", "dreamer_utils")
        )
        self.net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        self.device = str(next(self.net.parameters()).device)
        dreamer = tool.Dreamer(self.net, quiet=True, device=self.device)
        dreamer.get_default_transforms(rotate=15, scale_max=1.2, scale_min=0.5, translate_x=0.0, translate_y=0.0)
        resize = nn.Upsample(size=(task.input, task.input), mode="bilinear")
        dreamer.set_custom_transforms(transforms.Compose([dreamer.transforms, resize]))
        self.view = dreamer.transforms
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(task.seed)
        self.canvases = params.BatchedAutoImageParam(
            batch_size=len(task.units), width=task.size, height=task.size, device=self.device, lr=task.lr
        )
        self.loss = objectives.BatchedObjective([_channel(u) for u in task.units])
        self.tap = utils.Hook(self.net.get_submodule(task.layer))

    def step(self) -> None:
        self.canvases.optimizer.zero_grad()
        self.net(self.view(self.canvases.forward(device=self.device)))
        loss = self.loss([self.tap.output])
        loss.backward()
        self.canvases.clip_grads(grad_clip=1.0)
        self.canvases.optimizer.step()

    def images(self) -> Tensor:
        return torch.cat([c.postprocess(device=self.device) for c in self.canvases.image_params]).detach().cpu()


def _channel(unit: int):
    """The loss that torch-dreams' README writes for a channel."""

    def custom_func(layer_outputs: list[Tensor]) -> Tensor:
        return -layer_outputs[0][:, unit].mean()

    return custom_func
