"""The second tier: modules that scale each channel of a map by one number, which varies with the image.

For the input x and the output y of a module, ``g = <x,y> / <x,x>`` per image and channel. The module is a gate if
``y == g x`` to 1e-4, both for its own input and for noise, and if g varies. The g of batch norm and layer scale does
not vary. ReLU, convolutions and whole CBAMs leave a remainder, at the latest on noise. A normalisation gives the same
output for 2x as for x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.gating.patch import expand_channels, fit_scale, patch_output
from featureviz.gating.verify import hook_modules, may_squash, propose_site
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite, within

REMAINDER, SPREAD = 1e-4, 1e-5  # relative; measured gates have remainder 1e-7 and spread 1e-2, fixed scales spread 1e-7


@torch.no_grad()
def find_by_probing(
    model: TappedModel, images: Tensor, known: Mapping[str, GateSite]
) -> tuple[dict[str, int], list[GateSite]]:
    """Find the suspects: modules that behave like gates and contain no known gate.

    Returns the axis of the channels of each suspect, and the sites of those suspects whose gate is the output of a
    module inside them.
    """
    probe = _ForwardProbe(model.net, [site.y.module for site in known.values()])
    with hook_modules(model.net, probe.after, probe.before):
        model.rerun(images)
    return probe.suspects, probe.sites


def patch_suspects(model: TappedModel, suspects: Mapping[str, int]) -> Iterator[GateSite]:
    """Sites of suspects whose gate is no module's output. A patch gives the value, which also serves as the logit."""
    paths = {name: patch_output(model.net, name, axis) for name, axis in suspects.items()}
    model.forget_layers()
    for name, path in paths.items():
        channels = model.check()[path].shape[-1]
        found = "behaves as a gate, value only"
        yield propose_site(model.net, name, name, path, channels, found, axis=suspects[name])


@final
@dataclass
class _ForwardProbe:
    """Reads the input and the output of every module during one forward; inner modules end before outer ones."""

    net: nn.Module
    explained: list[str]
    suspects: dict[str, int] = field(default_factory=dict)
    sites: list[GateSite] = field(default_factory=list)
    _inputs: dict[str, Tensor] = field(default_factory=dict)
    _gates: list[tuple[str, Tensor]] = field(default_factory=list)
    _paused: bool = False

    def before(self, name: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._paused and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self._inputs[name] = args[0].clone()  # the block may overwrite its input

    def after(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
        x = None if self._paused else self._inputs.pop(name, None)
        if x is None or not isinstance(y, Tensor):
            return
        if may_squash(module, x, y) and y.ndim > 1 and y.numel() == len(y) * max(y.shape[1:]):  # one number a channel
            self._gates.append((name, y.flatten(1).clone()))
        if any(inner == name or within(inner, name) for inner in (*self.explained, *self.suspects)):
            return  # a module inside is the gate
        axis = next((axis for axis in (1, -1) if _is_scaled(x, y, axis)), None)
        if axis is not None and self._scales_noise(lambda noise: module(noise, *args[1:], **kwargs), x, axis):
            self.suspects[name] = axis
            self.sites += self._find_site(name, x, y, axis)

    def _scales_noise(self, module: Any, x: Tensor, axis: int) -> bool:
        """Whether the module also scales noise by numbers that vary, and returns more for twice the noise.

        The noise has sd 1 around channel means of sd 1, independent of the scale of x. In an untrained network x may be
        so small that Hardswish is nearly linear on it, or that all units of a bottleneck are dead.
        """
        generator = torch.Generator().manual_seed(0)
        normal = partial(torch.randn, generator=generator, dtype=torch.float32, device="cpu")
        means = expand_channels(normal(len(x), x.shape[axis]), axis, x.ndim)
        noise = (normal(x.shape) + means).to(x)
        self._paused = True
        try:
            y, doubled = module(noise.clone()), module(2 * noise)
        finally:
            self._paused = False
        g = fit_scale(noise, y, axis)
        remainder = _remainder(noise, y, g, axis)
        spread = min((_spread(g, dim) for dim in (0, 1) if g.shape[dim] > 1), default=0.0)
        varies = spread > max(SPREAD, remainder)
        return varies and remainder < _tolerance(x) and bool((doubled - y).norm() > 0.1 * y.norm())

    def _find_site(self, name: str, x: Tensor, y: Tensor, axis: int) -> Iterator[GateSite]:
        """The site of the first module inside the block whose output is the scale of each channel, if there is one."""
        g, power = fit_scale(x, y, axis), x.movedim(axis, 1).flatten(2).double().square().sum(2)
        known = power > 1e-9 * power.amax()  # the scale of an empty channel is unknown
        for path, value in self._gates:
            inside = within(path, name) and value.shape == g.shape
            if inside and torch.allclose(value[known], g[known], 10 * _tolerance(x), 1e-5):
                yield propose_site(self.net, name, name, path, g.shape[1], "behaves as a gate", axis=axis)
                return


def _is_scaled(x: Tensor, y: Tensor, axis: int) -> bool:
    """Whether y is x with each channel scaled by a number of its own."""
    if x.shape != y.shape or x.ndim < 3 or x.movedim(axis, 1)[0, 0].numel() == 1:
        return False
    return _remainder(x, y, fit_scale(x, y, axis), axis) < _tolerance(x)


def _spread(g: Tensor, dim: int) -> float:
    """The relative range of g over images (dim 0) or channels (dim 1)."""
    return float((g.amax(dim) - g.amin(dim)).mean() / g.abs().mean())


def _tolerance(x: Tensor) -> float:
    return max(REMAINDER, torch.finfo(x.dtype).eps)


def _remainder(x: Tensor, y: Tensor, g: Tensor, axis: int) -> float:
    """The relative size of ``y - g x``; NaN if y is 0."""
    return float((y - x * expand_channels(g, axis, x.ndim)).norm() / y.norm())
