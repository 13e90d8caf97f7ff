"""Horama, feature visualization by the authors of MACO, here its ``fourier``."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.contenders.base import MEAN, STD, Contender, Task

# Imported here so that building does not pay for it; where it is missing, building says so.
with suppress(ModuleNotFoundError):
    import_module("horama")

RANGE, BOX, NOISE, CROPS, DECAY = (-2.5, 2.5), (0.20, 0.25), 0.05, 6, 1.5


@final
class Horama(Contender):
    """``fourier`` with everything left alone but the image's size, one image after the other: it knows no batch.

    A step shows the network 6 views of every image: crops near the middle (of 25 to 30 % of the side where 20 to 25 %
    was asked), resized to twice ``task.input`` and back to it, with noise. Meant for images of 1280 px, the default:
    from 128 px a crop is 35 px, so whole images score less than they might. What the network sees is the user's own
    function; here it is cut behind the layer by torchvision's feature extractor, so it runs truncated, and its weights
    get gradients, never cleared. Each step also adds to the map of transparency. Fourier image, decorrelated colours.
    NAdam at its own rate of 1, which its standardised spectrum needs and ``task.lr`` does not fit. No normalisation
    but the stretch to [-2.5,2.5]: ``images`` undoes ImageNet's and clips.
    """

    notes: ClassVar[str] = "one image a time, 6 views (crops of a quarter), network truncated by its user, NAdam 1.0"
    versions: ClassVar[tuple[str, ...]] = ("horama",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        net = task.network().to("cuda" if torch.cuda.is_available() else "cpu")
        extractor = create_feature_extractor(net, [task.layer])
        torch.manual_seed(task.seed)
        self.climbs = [_Climb(task, extractor, u, next(net.parameters()).device) for u in task.units]

    def step(self) -> None:
        for climb in self.climbs:
            climb.step()

    def images(self) -> Tensor:
        seen = torch.stack([climb.image().detach().cpu() for climb in self.climbs])
        mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
        return (seen * std + mean).clamp(0, 1)


class _Climb:
    """What ``fourier`` sets up for one unit, and a turn of its loop."""

    def __init__(self, task: Task, extractor: Any, unit: int, device: torch.device) -> None:
        common, fourier_fv = import_module("horama.common"), import_module("horama.fourier_fv")
        self.input, self.device = task.input, device
        self.turn, self.decode = common.optimization_step, fourier_fv.fourier_preconditionner
        self.spectrum = fourier_fv.init_lucid_buffer(task.size, task.size).to(device).requires_grad_(True)
        self.scale = fourier_fv.get_fft_scale(task.size, task.size, DECAY).to(device)
        self.optimizer = torch.optim.NAdam([self.spectrum], lr=1.0)
        self.transparency = torch.zeros(3, task.size, task.size, device=device)
        self.score = lambda views: extractor(views)[task.layer][:, unit].mean()

    def image(self) -> Tensor:
        return self.decode(self.spectrum, self.scale, RANGE, self.device)

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss, image = self.turn(self.score, self.image(), BOX, NOISE, CROPS, self.input)
        loss.backward()
        self.transparency += torch.abs(image.grad)
        self.optimizer.step()
