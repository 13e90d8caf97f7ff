"""The second tier: modules that scale each channel of a map by one number, which varies with the image.

For a map x and its image y, ``g = <x,y> / <x,x>`` per image and channel; the module is a gate if ``y == g x`` to 1e-4,
on its x and on noise, and g varies. Batch norm and layer scale do not vary; ReLU, convolutions and whole CBAMs leave a
remainder, on noise if not on this x; a normalisation gives the same for 2x as for x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.gating.patch import along, ratio, rescale
from featureviz.gating.trace import elementwise
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite, within
from featureviz.network.taps import INPUT, OUTPUT, Tap

REMAINDER, SPREAD = 1e-4, 1e-5  # relative; measured gates leave 1e-7 and spread by 1e-2, fixed scales by 1e-7


@torch.no_grad()
def behavioural(
    model: TappedModel, images: Tensor, known: Mapping[str, GateSite]
) -> tuple[dict[str, int], list[GateSite]]:
    """Modules that behave like gates and hold no known one, with the axis of their channels; and the sites of those
    that hold a module which gives the gate.
    """
    probe = _Probe([site.y.module for site in known.values()])
    try:
        for name, module in model.net.named_modules():
            probe.watch(name, module)
        model.running(images)
    finally:
        probe.release()
    return probe.suspects, probe.sites


@final
@dataclass
class _Probe:
    """Sees every module's input and output during one forward, those inside before those around them."""

    explained: list[str]
    suspects: dict[str, int] = field(default_factory=dict)
    sites: list[GateSite] = field(default_factory=list)
    _inputs: dict[str, Tensor] = field(default_factory=dict)
    _numbers: list[tuple[str, nn.Module, Tensor]] = field(default_factory=list)
    _handles: list[Any] = field(default_factory=list)
    _quiet: bool = False

    def watch(self, name: str, module: nn.Module) -> None:
        self._handles.append(module.register_forward_pre_hook(partial(self._before, name)))
        self._handles.append(module.register_forward_hook(partial(self._after, name), with_kwargs=True))

    def release(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, name: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._quiet and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self._inputs[name] = args[0].clone()  # the block may scale in place

    def _after(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
        x = None if self._quiet else self._inputs.pop(name, None)
        if x is None or not isinstance(y, Tensor):
            return
        if elementwise(module, x, y) and y.ndim > 1 and y.numel() == len(y) * max(y.shape[1:]):  # one number a channel
            self._numbers.append((name, module, y.flatten(1).clone()))
        if any(done == name or within(done, name) for done in (*self.explained, *self.suspects)):
            return  # what is inside explains it
        axis = next((axis for axis in (1, -1) if _scales(x, y, axis)), None)
        if axis is not None and self._gates_noise(partial(_again, module, args[1:], kwargs), x, axis):
            self.suspects[name] = axis
            self.sites += self._site(name, x, y, axis)

    def _gates_noise(self, module: partial[Tensor], x: Tensor, axis: int) -> bool:
        """A gate scales whatever it is given, of either sign and any size, by what it sees, and gives more for more.

        Noise of sd 1 about means of sd 1, whatever x has: in untrained networks signals fade until Hardswish is as good
        as a line, and every unit of a bottleneck may be dead.
        """
        generator = torch.Generator().manual_seed(0)
        means = along(torch.randn(len(x), x.shape[axis], generator=generator), axis, x.ndim)
        noise = (torch.randn(x.shape, generator=generator) + means).to(x)
        self._quiet = True
        try:
            y, twice = module(noise.clone()), module(2 * noise)
        finally:
            self._quiet = False
        g = ratio(noise, y, axis)
        remainder, spread = _remainder(noise, y, g, axis), min(_spread(g, dim) for dim in (0, 1) if g.shape[dim] > 1)
        varies = spread > max(SPREAD, remainder)
        return varies and remainder < _limit(x) and bool((twice - y).norm() > 0.1 * y.norm())

    def _site(self, name: str, x: Tensor, y: Tensor, axis: int) -> Iterator[GateSite]:
        """The first module inside whose output is the number that scales each channel."""
        g, power = ratio(x, y, axis), x.movedim(axis, 1).flatten(2).double().square().sum(2)
        seen = power > 1e-9 * power.amax()  # of the other channels nothing can be said
        for path, module, value in self._numbers:
            inside = within(path, name) and value.shape == g.shape
            if inside and torch.allclose(value[seen], g[seen], 10 * _limit(x), 1e-5):
                yield GateSite(
                    name, "", g.shape[1], module, path, Tap(path, INPUT, True), Tap(path, OUTPUT, True),
                    Tap(name, INPUT, axis=axis), Tap(name, OUTPUT, axis=axis), "behaves as a gate",
                )  # fmt: skip
                return


def opaque(model: TappedModel, suspects: Mapping[str, int]) -> Iterator[GateSite]:
    """Sites of modules that behave like gates in a way that cannot be followed: their logit is the value itself."""
    paths = {name: rescale(model.net, name, axis) for name, axis in suspects.items()}
    model.forget_layers()
    for name, path in paths.items():
        axis = suspects[name]
        yield GateSite(
            name, "", model.check()[path].shape[-1], model.net.get_submodule(path), path, Tap(path, INPUT, True),
            Tap(path, OUTPUT, True), Tap(name, INPUT, axis=axis), Tap(name, OUTPUT, axis=axis),
            "behaves as a gate, value only",
        )  # fmt: skip


def _again(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], x: Tensor) -> Tensor:
    return module(x, *args, **kwargs)


def _scales(x: Tensor, y: Tensor, axis: int) -> bool:
    """Whether y is x with each channel scaled by a number of its own."""
    if x.shape != y.shape or x.ndim < 3 or x.movedim(axis, 1)[0, 0].numel() == 1:
        return False
    return _remainder(x, y, ratio(x, y, axis), axis) < _limit(x)


def _spread(g: Tensor, dim: int) -> float:
    """Between images, or between channels."""
    return float((g.amax(dim) - g.amin(dim)).mean() / g.abs().mean())


def _limit(x: Tensor) -> float:
    return max(REMAINDER, torch.finfo(x.dtype).eps)


def _remainder(x: Tensor, y: Tensor, g: Tensor, axis: int) -> float:
    return float((y - x * along(g, axis, x.ndim)).norm() / y.norm())  # no number where y is nothing
