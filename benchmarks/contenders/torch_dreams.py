"""torch-dreams, where each image of a batch is a separate parameter."""

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

# Imported here so that the time of building does not include it. If it is missing, building raises the error. Its
# import silences all warnings of the process; the context restores them.
with suppress(ModuleNotFoundError), warnings.catch_warnings():
    import_module("torch_dreams")


@final
class TorchDreams(Contender):
    """``Dreamer.render`` with ``BatchedAutoImageParam`` and ``BatchedObjective``, its functions for batches.

    - View: one of every image, with the same draw for the whole batch. Normalise, rotate by up to 15 degrees, resize by
      0.5 to 1.2 along each axis. Here ``set_custom_transforms`` adds a resize to ``task.input``, so that all tools use
      the same input size.
    - Network: runs to its end. Its weights get gradients, which are never cleared.
    - Image: each is a separate Fourier image (decorrelated colours) with its own inverse FFT, its gradient clipped to
      norm 1, and its own AdamW without decay, which equals Adam; ``render`` offers no other optimizer. The default
      learning rate is 0.009; scores rise as fast with 0.05.
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
        self.loss = objectives.BatchedObjective([_make_channel_loss(u) for u in task.units])
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


def _make_channel_loss(unit: int):
    """The loss of a channel as in the README of torch-dreams."""

    def custom_func(layer_outputs: list[Tensor]) -> Tensor:
        return -layer_outputs[0][:, unit].mean()

    return custom_func
