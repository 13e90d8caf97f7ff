"""Objectives on one gated block, beyond the logit: its value, its contrast, its channel, its content, its bottleneck.

A block computes ``y_c = x_c * g_c`` with ``g_c = gate(z_c)``. Written with a number from ``fv.gates(model)``:
``gatevalue:SITE:3``, ``gated:SITE:3``, ``pregate:SITE:3``, ``bottleneck:SITE:3``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from featureviz.naming import Units, as_units, chosen, named
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite
from featureviz.network.taps import BOTTLENECK, GATE, GATE_VALUE, GATED, PRE_GATE
from featureviz.objectives.algebra import Objective


class SiteObjective(Objective):
    """A score of one unit of one gated block: abstract.

    Args:
        site: a site of ``fv.gates(model)``, or its name.
        unit: the channel, or one an image.
        kind: how specs write it.
        layers: the prefixes of what it reads of the site.
    """

    def __init__(self, site: GateSite | str, unit: Units, kind: str, layers: Sequence[str]) -> None:
        name = site if isinstance(site, str) else site.name
        units, written = as_units(unit, f"{type(self).__name__}({name!r})")
        super().__init__([layer + name for layer in layers], f"{kind}:{named(name)}:{written}", len(units))
        self.site_name = name
        self.units, self.index = units, nn.Buffer(torch.tensor(units))

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else self.of(chosen(self.units, images))

    @abstractmethod
    def of(self, unit: Units) -> Objective:
        """The same for another unit, or for others."""

    def read(self, activations: Activations, kind: str) -> Tensor:
        """What ``kind`` of the site gives for each row's unit: ``[M]``, the mean over positions of a map."""
        return activations.means(kind + self.site_name, self.units, self.index)


@final
class GateValue(SiteObjective):
    """A gate's value ``g_c`` in [0,1], with a slope where it has none.

    Within 0.01 of 0 or 1 the gradient of ``z_c / 6`` is added, the slope of a hard-sigmoid's middle: a straight-through
    estimate (Bengio et al. 2013). Use it where the value itself must be in a sum; ``Gate`` climbs better alone.

    >>> GateValue("features.12.block.2", 17)
    gatevalue:features.12.block.2:17
    """

    EDGE, SLOPE = 0.01, 1 / 6

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "gatevalue", [GATE, GATE_VALUE])

    def forward(self, activations: Activations) -> Tensor:
        value, logit = self.read(activations, GATE_VALUE), self.read(activations, GATE)
        stuck = (value < self.EDGE) | (value > 1 - self.EDGE)
        return value + torch.where(stuck, self.SLOPE * (logit - logit.detach()), 0.0)

    def of(self, unit: Units) -> Objective:
        return GateValue(self.site_name, unit)


@final
class GatedChannel(SiteObjective):
    """The channel as it leaves its gate: ``mean_hw y_c = g_c mean_hw x_c``; both factors may rise.

    >>> GatedChannel("features.12.block.2", 17)
    gated:features.12.block.2:17
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "gated", [GATED])

    def forward(self, activations: Activations) -> Tensor:
        return self.read(activations, GATED)

    def of(self, unit: Units) -> Objective:
        return GatedChannel(self.site_name, unit)


@final
class PreGate(SiteObjective):
    """The channel before its gate: ``mean_hw x_c``.

    Its gradient is that of ``GatedChannel`` with the gate detached, divided by the gate; so there is one where
    the gate is shut.

    >>> PreGate("features.12.block.2", 17)
    pregate:features.12.block.2:17
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "pregate", [PRE_GATE])

    def forward(self, activations: Activations) -> Tensor:
        return self.read(activations, PRE_GATE)

    def of(self, unit: Units) -> Objective:
        return PreGate(self.site_name, unit)


@final
class Bottleneck(SiteObjective):
    """A unit of the block's bottleneck before its activation: ``(W1 p + b1)_k`` of the squeeze p, k from 0 to r - 1.

    There are few of them, and every gate of the block is read off them: they are what the block can tell apart.

    >>> Bottleneck("features.12.block.2", 5)
    bottleneck:features.12.block.2:5
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "bottleneck", [BOTTLENECK])

    def forward(self, activations: Activations) -> Tensor:
        return self.read(activations, BOTTLENECK)

    def of(self, unit: Units) -> Objective:
        return Bottleneck(self.site_name, unit)
