"""Faccent, the authors' tool for feature accentuation; here it starts from noise."""

from __future__ import annotations

import contextlib
import io
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from benchmarks.contenders.base import Contender, Task

# Imported here so that the time of building does not include it. If it is missing, building raises the error.
with suppress(ModuleNotFoundError):
    import_module("faccent.render")

VIEWS = 16


@final
class Faccent(Contender):
    """``render_vis`` from noise with its defaults, but for the image's size and the normalisation.

    - Views: 16 of every image (its ``nb_transforms``), made one after the other and run as one batch. Each is a crop of
      5 to 99 % of the side, with noise, resized to ``task.input``. Normalisation by faccent's ``imagenet_normalize``;
      the default only stretches to [-2,2].
    - Network: runs to its end, with a hook on every module; weights are frozen.
    - Image: Fourier, decorrelated colours, Adam. Each step also adds to the map of transparency. One image after the
      other, the default of ``render_vis``; a batch of several images, with 64 views, was slower and took 13 GB.
    - Difference: no intermediate plots.
    """

    notes: ClassVar[str] = "one image at a time, 16 views, whole network, weights frozen"
    versions: ClassVar[tuple[str, ...]] = ("faccent",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        render = import_module("faccent.render")
        self.net = task.network().to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
        torch.manual_seed(task.seed)
        self.renders = [_Render(task, self.net, unit) for unit in task.units]
        # The hooks of the first render serve all renders: they return the layers of the last forward. Hooking the
        # network again would remove them.
        first = self.renders[0]
        self.taps = render.hook_model(self.net, first.image, first.view, nb_transforms=VIEWS)

    def step(self) -> None:
        for render in self.renders:
            render.step(self.taps.hook_f)

    def images(self) -> Tensor:
        return torch.cat([render.image() for render in self.renders]).detach().cpu()


class _Render:
    """The setup of ``render_vis`` for one unit, and one step of its loop."""

    def __init__(self, task: Task, net: nn.Module, unit: int) -> None:
        objectives, param, transform = (
            import_module(f"faccent.{name}") for name in ("objectives", "param", "transform")
        )
        self.net = net
        device, size = next(net.parameters()).device, (task.size, task.size)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it starts from noise
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
