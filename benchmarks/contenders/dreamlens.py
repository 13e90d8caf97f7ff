"""DreamLens' three ways to climb channels: its front door one by one, the same in a batch, and its older optimizer."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contenders.base import Contender, Task

# Imported here so that building does not pay for it; where it is missing, building says so.
with suppress(ModuleNotFoundError):
    import_module("dreamlens")


@final
class DreamLens(Contender):
    """``visualize(FeatureTarget.for_channel(...))``, one image after the other.

    A step shows the network one view of every image: scaled by 0.5 to 1.2, rotated by up to 15 degrees, cropped or
    padded back to ``task.size``. DreamLens would leave it at that size; its ``preprocess`` is set to resize to
    ``task.input`` before its own normalisation, so that all networks work alike. The network runs whole, for each image
    alone, and its weights get gradients too, never cleared. Fourier image, decorrelated colours, gradients clipped to
    norm 1, and Adam by its ``optimizer_cls``; AdamW without decay is the default, the same steps. Its default rate is
    0.009; 0.05 climbs faster.
    """

    notes: ClassVar[str] = "one image a time, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("dreamlens",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002 - the generator that DreamLens' canvases are drawn from
        self.climbs = [_Climb(task, net, (u,)) for u in task.units]

    def step(self) -> None:
        for climb in self.climbs:
            climb.step()

    def images(self) -> Tensor:
        return torch.cat([climb.canvas.as_nchw() for climb in self.climbs])


@final
class DreamLensBatched(Contender):
    """``FeatureVisualizer.maximize_channels``: as ``DreamLens``, with all images in one batch.

    One draw of the view for the whole batch, one Fourier canvas, gradients clipped to norm 1 over all images together.
    """

    notes: ClassVar[str] = "one batch, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("dreamlens",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002 - the generator that DreamLens' canvases are drawn from
        self.climb = _Climb(task, net, task.units)

    def step(self) -> None:
        self.climb.step()

    def images(self) -> Tensor:
        return self.climb.canvas.as_nchw()


@final
class DreamLensOptimize(Contender):
    """``dreamlens.optimize``, kept for older code and its cheapest way: all images in one batch, weights frozen.

    A step shows the network one view of every image: padded, jittered five times, scaled, blurred, jittered twice and
    flipped, which leaves a crop of about a third of the side, resized to ``task.input`` as ``input_shape`` says. Meant
    for images of 512 px, the default: from 128 px a view is 44 px, so whole images score less than they might. The
    network runs whole. Fourier image, decorrelated colours stretched to [0,1] image by image, Adam with eps 1e-7.
    """

    notes: ClassVar[str] = "one batch, one view (a crop of a third), whole network, weights frozen"
    versions: ClassVar[tuple[str, ...]] = ("dreamlens",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        dl: Any = import_module("dreamlens")
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
        objective = dl.Objective.channel(net, task.layer, list(task.units))
        self.net, self.score, _, _ = objective.compile(input_shape=(3, task.input, task.input))
        torch.manual_seed(task.seed)
        self.shape = (len(task.units), 3, task.size, task.size)
        device = next(net.parameters()).device
        self.spectrum = nn.Parameter(dl.fft_image(self.shape, device=device))
        self.scale = dl.get_fft_scale(task.size, task.size, decay_power=0.85, device=device)
        self.view = dl.generate_standard_transformations(size=task.size)
        self.optimizer = torch.optim.Adam([self.spectrum], lr=task.lr, eps=1e-7)
        self.decode, self.to_rgb, self.preprocess = dl.fft_to_rgb, dl.to_valid_rgb, dl.imagenet_normalize

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        size = (self.task.input, self.task.input)
        view = F.interpolate(self.view(self._image()), size=size, mode="bilinear", align_corners=False)
        score = self.score(self.net(self.preprocess(view))).sum()
        (-score).backward()
        self.optimizer.step()

    def _image(self) -> Tensor:
        return self.to_rgb(self.decode(self.shape, self.spectrum, self.scale))

    def images(self) -> Tensor:
        return self._image().detach().cpu()


class _Climb:
    """What ``FeatureVisualizer.synthesize`` sets up for ``units``, one an image, and a turn of its loop."""

    def __init__(self, task: Task, net: nn.Module, units: tuple[int, ...]) -> None:
        dl: Any = import_module("dreamlens")
        target: Any = import_module("dreamlens.objectives").TargetObjective
        self.net, self.input, self.losses = net, (task.input, task.input), []
        lens = dl.FeatureVisualizer(net, quiet=True)
        self.device = lens.device
        self.canvas: Any = dl.FourierCanvas(task.size, task.size, device=lens.device, batch_size=len(units))
        self.optimizer = self.canvas.make_optimizer(lr=task.lr, optimizer_cls=torch.optim.Adam)
        self.view = lens.build_transforms(height=task.size, width=task.size)
        self.normalize = lens.preprocess
        losses = [target([dl.FeatureTarget.for_channel(task.layer, u)]) for u in units]
        self.loss = losses[0] if len(units) == 1 else dl.PerSampleObjective(losses)
        self.tap = import_module("dreamlens.layers").LayerCapture(net.get_submodule(task.layer)).open()

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        view = self.view(self.canvas(device=self.device))
        self.tap.clear()
        self.net(self.normalize(F.interpolate(view, size=self.input, mode="bilinear", align_corners=False)))
        loss = self.loss([self.tap.tensor_output()])
        loss.backward()
        self.canvas.clip_gradients(grad_clip=1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach().cpu()))
