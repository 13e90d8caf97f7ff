"""Squeeze-and-excitation gates: where they are, and where their logits and values are read.

A gated block computes ``y = x * gate(z)``, one logit z a channel (Hu et al. 2018). Discovery goes through
:data:`FINDERS`, the surest first; every site they propose must prove that identity on the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import nn

from featureviz.errors import ModelError, unknown
from featureviz.model import TappedModel, tapped
from featureviz.taps import INPUT, OUTPUT, Tap

TOLERANCE = 1e-5  # relative, float32: how closely a site must recompute its block's output


@final
@dataclass(frozen=True)
class GateSite:
    """One gated block: ``block(x) == x * nonlinearity(logits)``.

    ``logits`` and ``value`` say where z and gate(z) are read, both as ``[M, channels]``; ``found`` says how the site
    was recognised, ``error`` how closely it recomputed its block (relative, at discovery).
    """

    name: str
    channels: int
    nonlinearity: nn.Module
    logits: Tap
    value: Tap
    found: str
    error: float = float("nan")

    def __str__(self) -> str:
        gate = type(self.nonlinearity).__name__
        return f"{self.name:40} {self.channels:5} gates  {gate:12} {self.found}, checked to {self.error:.0e}"


@final
class Gates(Mapping[str, GateSite]):
    """A model's gated blocks by name, in order of running; a wrong name gets the nearest ones."""

    def __init__(self, sites: Mapping[str, GateSite], model: str) -> None:
        self._sites, self._model = dict(sites), model

    def __getitem__(self, name: str) -> GateSite:
        if name in self._sites:
            return self._sites[name]
        if not self._sites:
            raise ModelError(
                f"{self._model} has no squeeze-and-excitation gates, so there is no gate {name!r}; visualise a channel"
                " (LAYER:CHANNEL) instead"
            )
        raise unknown("gate", name, self._sites, "`fv.gates(model)` lists them.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return "\n".join(str(site) for site in self._sites.values()) or f"{self._model}: no gates"


def gates(model: TappedModel) -> Gates:
    """The squeeze-and-excitation blocks of ``model``, by name; empty where there are none.

    >>> import featureviz as fv
    >>> fv.gates(fv.load("embedded"))["features.9.block.2"].channels
    320
    """
    return tapped(model).gates


def discover(model: TappedModel) -> Gates:
    """Find, check and order the sites of ``model``."""
    sites: dict[str, GateSite] = {}
    for finder in FINDERS:
        for site in finder(model):
            sites.setdefault(site.name, site)
    checked = _checked(model, sites) if sites else {}
    return Gates(checked, model.name)


def _torchvision(model: TappedModel) -> Iterator[GateSite]:
    """``torchvision.ops.SqueezeExcitation`` in mobilenet_v3, efficientnet, regnet_y and maxvit.

    Its ``scale_activation`` takes the logits and gives the gate; ``fc2`` has one output a channel.
    """
    for name, module in model.net.named_modules():
        if any(
            c.__module__ == "torchvision.ops.misc" and c.__name__ == "SqueezeExcitation" for c in type(module).__mro__
        ):
            gate, fc2 = module.get_submodule("scale_activation"), module.get_submodule("fc2")
            path = f"{name}.scale_activation" if name else "scale_activation"
            channels = int(getattr(fc2, "out_channels"))  # noqa: B009 - a Module's attribute has no type
            yield GateSite(name, channels, gate, Tap(path, INPUT, True), Tap(path, OUTPUT, True), "torchvision class")


Finder = Callable[[TappedModel], Iterator[GateSite]]
FINDERS: tuple[Finder, ...] = (_torchvision,)  # known classes; behavioural and functional finders go behind them


def _checked(model: TappedModel, sites: Mapping[str, GateSite]) -> dict[str, GateSite]:
    """The sites that run, in order of running, each with the error of ``x * gate(z)`` against its block's output."""
    model.check()
    taps: dict[str, Tap] = {}
    for name, site in sites.items():
        taps |= {f"x {name}": Tap(name, INPUT), f"y {name}": Tap(name), f"z {name}": site.logits}
    with torch.no_grad():
        taken = model.read(model.probe(2), taps)
        checked = {}
        for name in [key[2:] for key in taken if key.startswith("y ")]:
            site, x, y, z = sites[name], taken[f"x {name}"], taken[f"y {name}"], taken[f"z {name}"]
            again = x * site.nonlinearity(z).view(*z.shape, *[1] * (x.ndim - 2))
            checked[name] = replace(site, error=float((again - y).norm() / y.norm().clamp(min=1e-12)))
    for name, site in checked.items():
        if not site.error <= TOLERANCE:
            raise ModelError(
                f"block {name!r} ({site.found}) does not compute x * gate(logits): relative error {site.error:.1e},"
                f" expected {TOLERANCE:.0e}; are there NaN weights, or does this subclass do something else?"
            )
    return checked
