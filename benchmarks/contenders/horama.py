"""Horama, the tool of the authors of MACO; here its function ``fourier``."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.contenders.base import MEAN, STD, Contender, Task

# Imported here so that the time of building does not include it. If it is missing, building raises the error.
with suppress(ModuleNotFoundError):
    import_module("horama")

RANGE, BOX, NOISE, CROPS, DECAY = (-2.5, 2.5), (0.20, 0.25), 0.05, 6, 1.5


@final
class Horama(Contender):
    """``fourier`` with its defaults but for the image's size; it has no batches, so one image after the other.

    - Views: 6 of every image. Each is a crop near the middle, resized to twice ``task.input`` and back to it, with
      noise. The option asks for 20 to 25 % of the side; the crops have 25 to 30 %. They are made for images of 1280 px,
      the default. From 128 px a crop is 35 px, so the score of a whole image is lower than it could be.
    - Network: the user's function calls it. Here torchvision's feature extractor truncates it behind the layer. Its
      weights get gradients, which are never cleared.
    - Image: Fourier, decorrelated colours. Each step also adds to the map of transparency. NAdam with its default
      learning rate of 1, because ``task.lr`` does not fit its standardised spectrum.
    - Normalisation: none but a stretch to [-2.5,2.5]. ``images`` inverts that of ImageNet and clips.
    """

    notes: ClassVar[str] = "one image at a time, 6 views (crops of a quarter), network truncated by its user, NAdam 1.0"
    versions: ClassVar[tuple[str, ...]] = ("horama",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        extractor = create_feature_extractor(net, [task.layer])
        torch.manual_seed(task.seed)
        self.renders = [_Render(task, extractor, u, next(net.parameters()).device) for u in task.units]

    def step(self) -> None:
        for render in self.renders:
            render.step()

    def images(self) -> Tensor:
        normalized = torch.stack([render.image().detach().cpu() for render in self.renders])
        mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
        return (normalized * std + mean).clamp(0, 1)


class _Render:
    """The setup of ``fourier`` for one unit, and one step of its loop."""

    def __init__(self, task: Task, extractor: Any, unit: int, device: torch.device) -> None:
        common, fourier_fv = import_module("horama.common"), import_module("horama.fourier_fv")
        self.input, self.device = task.input, device
        self.optimization_step, self.decode = common.optimization_step, fourier_fv.fourier_preconditionner
        self.spectrum = fourier_fv.init_lucid_buffer(task.size, task.size).to(device).requires_grad_(True)
        self.scale = fourier_fv.get_fft_scale(task.size, task.size, DECAY).to(device)
        self.optimizer = torch.optim.NAdam([self.spectrum], lr=1.0)
        self.transparency = torch.zeros(3, task.size, task.size, device=device)
        self.score = lambda views: extractor(views)[task.layer][:, unit].mean()

    def image(self) -> Tensor:
        return self.decode(self.spectrum, self.scale, RANGE, self.device)

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss, image = self.optimization_step(self.score, self.image(), BOX, NOISE, CROPS, self.input)
        loss.backward()
        self.transparency += torch.abs(image.grad)
        self.optimizer.step()
