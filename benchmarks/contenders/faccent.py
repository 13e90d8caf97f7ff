"""Faccent, feature accentuation by its authors, here from noise."""

from __future__ import annotations

import contextlib
import io
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from benchmarks.contenders.base import Contender, Task

# Imported here so that building does not pay for it; where it is missing, building says so.
with suppress(ModuleNotFoundError):
    import_module("faccent.render")

VIEWS = 16


@final
class Faccent(Contender):
    """``render_vis`` with everything left alone but the image's size and the normalisation, from noise.

    A step shows the network 16 views of every image, its ``nb_transforms``: a crop of 5 to 99 % of the side, with
    noise, resized to ``task.input``; made one after the other and run as one batch. The network runs whole, with a hook
    on every module; weights are frozen. Each step also adds to the map of transparency. ImageNet normalisation by
    faccent's own ``imagenet_normalize``; left alone it would only stretch to [-2,2]. Fourier image, decorrelated
    colours, Adam. Several images can share a batch (and its crops); here one goes after the other, as ``render_vis``
    does when left alone: 16 views fill a batch, and 64 were slower and took 13 GB. Left out: the plots on the way.
    """

    notes: ClassVar[str] = "one image a time, 16 views, whole network, weights frozen"
    versions: ClassVar[tuple[str, ...]] = ("faccent",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        render = import_module("faccent.render")
        self.net = task.network().to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
        torch.manual_seed(task.seed)
        self.climbs = [_Climb(task, self.net, unit) for unit in task.units]
        # Hooks of the first are enough: they give the layers of whatever ran last, and hooking again would undo them.
        first = self.climbs[0]
        self.taps = render.hook_model(self.net, first.image, first.view, nb_transforms=VIEWS)

    def step(self) -> None:
        for climb in self.climbs:
            climb.step(self.taps.hook_f)

    def images(self) -> Tensor:
        return torch.cat([climb.image() for climb in self.climbs]).detach().cpu()


class _Climb:
    """What ``render_vis`` sets up for one unit, and a turn of its loop."""

    def __init__(self, task: Task, net: nn.Module, unit: int) -> None:
        objectives, param, transform = (
            import_module(f"faccent.{name}") for name in ("objectives", "param", "transform")
        )
        self.net = net
        device, size = next(net.parameters()).device, (task.size, task.size)
        with contextlib.redirect_stdout(io.StringIO()):  # it says that it starts from noise
            parameters, self.image = param.fourier(img_size=size, device=device)()
        for p in parameters:
            p.requires_grad_(True)
        self.optimizer = torch.optim.Adam(parameters, lr=task.lr)
        fit = [transform.resize((task.input, task.input)), transform.imagenet_normalize()]
        self.view = transform.compose([*transform.standard_box_transforms, *fit], nb_transforms=VIEWS)
        self.loss = objectives.channel(task.layer.replace(".", "_"), unit)
        self.transparency = torch.zeros(1, 3, *size)

    def step(self, taps: Any) -> None:
        self.optimizer.zero_grad()
        image = self.image()
        image.retain_grad()
        self.net(self.view(image))
        self.loss(taps).backward()
        self.transparency = self.transparency.detach().clone() + torch.abs(image.grad.detach().clone().cpu())
        self.optimizer.step()
