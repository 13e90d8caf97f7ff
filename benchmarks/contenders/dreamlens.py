"""DreamLens in three ways: its main function image by image, the same in one batch, and its older optimizer."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contenders.base import Contender, Task

# Imported here so that the time of building does not include it. If it is missing, building raises the error.
with suppress(ModuleNotFoundError):
    import_module("dreamlens")


@final
class DreamLens(Contender):
    """``visualize(FeatureTarget.for_channel(...))``, one image after the other.

    - View: one of every image, scaled by 0.5 to 1.2, rotated by up to 15 degrees, cropped or padded to ``task.size``.
      Here ``preprocess`` also resizes it to ``task.input``, so that all tools use the same input size.
    - Network: runs to its end, for each image alone. Its weights get gradients, which are never cleared.
    - Image: Fourier, decorrelated colours, gradients clipped to norm 1, Adam by ``optimizer_cls``. The default, AdamW
      without decay, makes the same steps. The default learning rate is 0.009; scores rise faster with 0.05.
    """

    notes: ClassVar[str] = "one image at a time, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("dreamlens",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002 - DreamLens' canvases use this generator
        self.syntheses = [_Synthesis(task, net, (u,)) for u in task.units]

    def step(self) -> None:
        for synthesis in self.syntheses:
            synthesis.step()

    def images(self) -> Tensor:
        return torch.cat([synthesis.canvas.as_nchw() for synthesis in self.syntheses])


@final
class DreamLensBatched(Contender):
    """``FeatureVisualizer.maximize_channels``: as ``DreamLens``, with all images in one batch.

    The whole batch shares one draw of the view and one Fourier canvas. Gradients of all images together are clipped to
    norm 1.
    """

    notes: ClassVar[str] = "one batch, one view, whole network, weight gradients on"
    versions: ClassVar[tuple[str, ...]] = ("dreamlens",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002 - DreamLens' canvases use this generator
        self.synthesis = _Synthesis(task, net, task.units)

    def step(self) -> None:
        self.synthesis.step()

    def images(self) -> Tensor:
        return self.synthesis.canvas.as_nchw()


@final
class DreamLensOptimize(Contender):
    """``dreamlens.optimize``, DreamLens' older and fastest function: all images in one batch, weights frozen.

    - View: one of every image. Pad, jitter five times, scale, blur, jitter twice, flip. What remains is a crop of about
      a third of the side, resized to ``task.input`` as ``input_shape`` says. It is made for images of 512 px, the
      default. From 128 px a view is 44 px, so the score of a whole image is lower than it could be.
    - Network: runs to its end.
    - Image: Fourier, decorrelated colours, each image stretched to [0,1], Adam with eps 1e-7.
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
        self.fft_to_rgb, self.to_rgb, self.preprocess = dl.fft_to_rgb, dl.to_valid_rgb, dl.imagenet_normalize

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        size = (self.task.input, self.task.input)
        view = F.interpolate(self.view(self._decode()), size=size, mode="bilinear", align_corners=False)
        score = self.score(self.net(self.preprocess(view))).sum()
        (-score).backward()
        self.optimizer.step()

    def _decode(self) -> Tensor:
        return self.to_rgb(self.fft_to_rgb(self.shape, self.spectrum, self.scale))

    def images(self) -> Tensor:
        return self._decode().detach().cpu()


class _Synthesis:
    """The setup of ``FeatureVisualizer.synthesize`` for ``units``, one an image, and one step of its loop."""

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
