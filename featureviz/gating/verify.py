"""Proving that a site is a gate, and looking at what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.taps import OUTPUT, Tap, hooked, unseen

TOLERANCE = 1e-5  # relative, float32: how closely a site must recompute its block's output


_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _ConvNd, nn.Linear)


def varied(model: TappedModel, n: int = 2) -> Tensor:
    """``[n,C,H,W]`` that differ in scale, colour and contrast, so that whatever depends on the image shows it."""
    noise = model.noise_images(n)
    height, width = noise.shape[-2:]
    images = []
    for i in range(n):
        coarse = nn.functional.interpolate(noise[i : i + 1, :, :: 2 ** (i + 1), :: 2 ** (i + 1)], (height, width))
        tint = noise[i, :, :1, :1]
        images.append(tint + (coarse - tint) * (i + 1) / n)
    return torch.cat(images)


@contextmanager
def awake(net: nn.Module) -> Iterator[None]:
    """While it lasts, no norm or convolution of ``net`` multiplies by 0, as untrained residual branches do: a gate of
    nothing can not be told from anything else. ``net`` is a private copy; its parameters are replaced, not written to.
    """
    asleep = [
        (module, weight)
        for module in net.modules()
        if isinstance(module, _LAYERS) and (weight := module._parameters.get("weight")) is not None
        if not bool(weight.any())
    ]
    try:
        for module, weight in asleep:
            mean = torch.full_like(weight, 1 / prod(weight.shape[1:]))  # of what a convolution sees: it stays in range
            module.register_parameter("weight", nn.Parameter(mean, requires_grad=False))
        yield
    finally:
        for module, weight in asleep:
            module.register_parameter("weight", weight)


def read(model: TappedModel, images: Tensor, taps: Mapping[str, Tap]) -> dict[str, Tensor]:
    """What passes each tap that runs; of a module that runs several times, the last time."""
    taken: dict[str, Tensor] = {}

    def take(name: str, tensor: Any) -> None:
        if isinstance(tensor, Tensor):
            taken[name] = taps[name].shaped(tensor).clone()

    if taps:
        with hooked(model.net, taps, take):
            model.running(images)
    return taken


@torch.no_grad()
def proved(model: TappedModel, sites: Sequence[GateSite], images: Tensor) -> dict[str, GateSite]:
    """By name, the sites for which ``x * gate(z)`` is what their block gives, with the error.

    In the network's own arithmetic, so that what is left in a network of half precision is one rounding.
    """
    taps = {f"{k}{i}": getattr(site, k) for i, site in enumerate(sites) for k in ("x", "y", "logits")}
    taken = read(model, images, taps)
    calls, good = model.check(), {}
    for i, site in enumerate(sites):
        x, y, z = (taken.get(f"{k}{i}") for k in ("x", "y", "logits"))
        if x is None or y is None or z is None or site.gate not in calls:
            continue  # what is not computed for every input is no site
        try:
            g = site.broadcast(site.nonlinearity(z), x.ndim).to(x.dtype)
        except Exception:  # the network's own, whatever it is: a gate that cannot be asked is no site
            continue
        wide = g.ndim == x.ndim and all(n in (1, m) for n, m in zip(g.shape, x.shape, strict=True))
        if x.shape != y.shape or not wide:
            continue
        error = float((x * g - y).float().norm() / y.float().norm().clamp(min=1e-12))
        if error <= max(TOLERANCE, torch.finfo(y.dtype).eps):
            good[site.name] = replace(site, error=error, calls=calls[site.gate].calls)
    return good


@torch.no_grad()
def named_kinds(model: TappedModel, sites: Sequence[GateSite], images: Tensor) -> dict[str, GateSite]:
    """The sites by name, with the layers of their bottlenecks, and with a kind where their class told none."""
    wanted = {f"{k}:{s.name}": getattr(s, k) for s in sites if not s.spatial for k in ("x", "logits")}
    layers = _Layers({len(images) * site.channels for site in sites})
    with layers.watched(model.net):
        taken = read(model, images, wanted)
    calls = model.check()
    named = {}
    for site in sites:
        fc1, output = ("", None) if site.spatial else layers.reader(site, taken[f"x:{site.name}"])
        if fc1 and calls[fc1].calls > 1:  # CBAM squeezes twice, through the same layers
            fc1, output = "", None
        hidden = None
        if output is not None and not _same(output, taken[f"logits:{site.name}"]):
            hidden = Tap(fc1, OUTPUT, True)
        site = replace(site, fc1=fc1, hidden=hidden)
        named[site.name] = site if site.kind else replace(site, kind=_kind(site, model.net))
    return named


@final
@dataclass
class _Layers:
    """Of one forward, the modules that read as few numbers as a squeeze has, with what they read and give."""

    sizes: set[int]
    seen: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)

    @contextmanager
    def watched(self, net: nn.Module) -> Iterator[None]:
        handles = [m.register_forward_hook(partial(self._after, name)) for name, m in net.named_modules() if name]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def reader(self, site: GateSite, x: Tensor) -> tuple[str, Tensor | None]:
        """The first that reads the squeeze and changes it, and what it gives; within the block if there is one."""
        squeeze = site.squeezed(x)
        found = [(name, y) for name, p, y in self.seen if _same(p, squeeze) and not _same(y, squeeze)]
        inside = [(name, y) for name, y in found if name.startswith(f"{site.x.module}.")]
        return next(iter([*inside, *found]), ("", None))

    def _after(self, name: str, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        with unseen():
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].numel() in self.sizes:
                self.seen.append((name, args[0].clone(), output.clone()))


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal numbers, whatever their shape, of which some are not 0; float32 sums in another order differ by 1e-6."""
    if a.numel() != b.numel():
        return False
    a, b = a.flatten().float(), b.flatten().float()
    largest = float(b.abs().max())
    return largest > 0 and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * largest))


def _kind(site: GateSite, net: nn.Module) -> str:
    if site.spatial:
        return "spatial gate"
    if not site.fc1:
        return "channel gate"
    if site.hidden is not None:
        return "SE"
    return "ECA" if isinstance(net.get_submodule(site.fc1), nn.Conv1d) else "effective SE"
