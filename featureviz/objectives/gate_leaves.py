"""Objectives on one unit of a gated block.

A block computes ``y_c = x_c * g_c`` with ``g_c = gate(z_c)``. ``SITE`` is a name from ``fv.gates(model)``; the specs
are ``gate:SITE:3``, ``gatevalue:SITE:3``, ``gated:SITE:3``, ``pregate:SITE:3`` and ``bottleneck:SITE:3``.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from featureviz.naming import Units
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite
from featureviz.network.taps import BOTTLENECK, GATE, GATE_VALUE, GATED, PRE_GATE
from featureviz.objectives.leaves import UnitObjective


class SiteObjective(UnitObjective):
    """A score of one unit of one gated block, by default the mean of its first tap: abstract.

    ``KIND`` is how a spec writes it. ``TAPS`` are the prefixes of the layers it reads. ``site`` is a site of
    ``fv.gates(model)``, or its name; ``unit`` is the channel, or one for each image.
    """

    KIND = ""
    TAPS: tuple[str, ...] = ()

    def __init__(self, site: GateSite | str, unit: Units, **options: Any) -> None:
        name: Any = site.name if isinstance(site, GateSite) else site
        layers = [tap + name for tap in self.TAPS] if isinstance(name, str) else []
        super().__init__(layers, name, unit, form=f"{self.KIND}:{{name}}:{{units}}", **options)
        self.site_name = name


@final
class Gate(SiteObjective):
    """The logit of a squeeze-and-excitation gate: ``z_c``, where the block computes ``x_c * gate(z_c)``.

    ``Gate`` opens a channel, ``-Gate`` closes it. The objective is the logit and not the gate's value: a hard-sigmoid
    has no slope for |z| >= 3, so an ascent on the value could never open a gate that starts closed. Reports show the
    value. Of a spatial gate (unit 0) both are means over positions.

    Args:
        site: a site of ``fv.gates(model)``, or its name.
        unit: the channel, or one for each image.

    >>> -Gate("features.12.block.2", 17)
    -gate:features.12.block.2:17
    """

    KIND, TAPS = "gate", (GATE,)

    @property
    def value_layer(self) -> str:
        """The activation that holds the gate's values, for reports."""
        return GATE_VALUE + self.site_name

    def value(self, activations: Activations) -> Tensor:
        """``[M]``: the gate's value in each row."""
        return self.mean(activations, self.value_layer)


@final
class GateValue(SiteObjective):
    """A gate's value ``g_c`` in [0,1], with a gradient also where the gate is saturated.

    Within 0.01 of 0 or 1 the gradient of ``z_c / 6`` is added, the slope in the middle of a hard-sigmoid. This is a
    straight-through estimate (Bengio et al. 2013). Use it if the value itself must be a term of a sum; alone, ``Gate``
    is easier to optimise.

    >>> GateValue("features.12.block.2", 17)
    gatevalue:features.12.block.2:17
    """

    KIND, TAPS = "gatevalue", (GATE, GATE_VALUE)
    EDGE, SLOPE = 0.01, 1 / 6

    def forward(self, activations: Activations) -> Tensor:
        logit, value = (self.mean(activations, layer) for layer in self.layers)
        saturated = (value < self.EDGE) | (value > 1 - self.EDGE)
        return value + torch.where(saturated, self.SLOPE * (logit - logit.detach()), 0.0)


@final
class GatedChannel(SiteObjective):
    """The channel after its gate: ``mean_hw y_c = g_c mean_hw x_c``; an ascent may raise both factors.

    >>> GatedChannel("features.12.block.2", 17)
    gated:features.12.block.2:17
    """

    KIND, TAPS = "gated", (GATED,)


@final
class PreGate(SiteObjective):
    """The channel before its gate: ``mean_hw x_c``.

    Its gradient is that of ``GatedChannel`` with the gate constant, divided by the gate. So it does not vanish where
    the gate is shut.

    >>> PreGate("features.12.block.2", 17)
    pregate:features.12.block.2:17
    """

    KIND, TAPS = "pregate", (PRE_GATE,)


@final
class Bottleneck(SiteObjective):
    """A unit of the block's bottleneck before its activation: ``(W1 s + b1)_k`` of the squeeze s, k from 0 to r - 1.

    A block computes all of its gates from these few units.

    >>> Bottleneck("features.12.block.2", 5)
    bottleneck:features.12.block.2:5
    """

    KIND, TAPS = "bottleneck", (BOTTLENECK,)
