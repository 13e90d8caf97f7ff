"""Objectives on one gated block, beyond the logit: its value, its contrast, its channel, its content, its bottleneck.

A block computes ``y_c = x_c * g_c`` with ``g_c = gate(z_c)``. Written with a number from ``fv.gates(model)``:
``gatevalue:SITE:3``, ``gated:SITE:3``, ``content:SITE:3``, ``hidden:SITE:3``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from featureviz.activations import Activations
from featureviz.errors import InvalidInput
from featureviz.objective import Objective
from featureviz.objectives import Gate
from featureviz.taps import CONTENT, GATE, GATE_VALUE, GATED, HIDDEN
from featureviz.units import Units, as_units, chosen
from featureviz.writing import named

if TYPE_CHECKING:
    from featureviz.gates import GateSite
    from featureviz.lab.statistics import GateStatistics


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

    def part(self, images: Sequence[int]) -> Objective:
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
    estimate (Bengio et al. 2013). Use it where the value itself must be in a sum; :class:`Gate` climbs better alone.

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
class Content(SiteObjective):
    """The channel before its gate: ``mean_hw x_c``.

    Its gradient is that of :class:`GatedChannel` with the gate detached, divided by the gate; so there is one where
    the gate is shut.

    >>> Content("features.12.block.2", 17)
    content:features.12.block.2:17
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "content", [CONTENT])

    def forward(self, activations: Activations) -> Tensor:
        return self.read(activations, CONTENT)

    def of(self, unit: Units) -> Objective:
        return Content(self.site_name, unit)


@final
class Hidden(SiteObjective):
    """A unit of the block's bottleneck before its activation: ``(W1 p + b1)_k`` of the squeeze p, k from 0 to r - 1.

    There are few of them, and every gate of the block is read off them: they are what the block can tell apart.

    >>> Hidden("features.12.block.2", 5)
    hidden:features.12.block.2:5
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        super().__init__(site, unit, "hidden", [HIDDEN])

    def forward(self, activations: Activations) -> Tensor:
        return self.read(activations, HIDDEN)

    def of(self, unit: Units) -> Objective:
        return Hidden(self.site_name, unit)


@final
class GateContrast(SiteObjective):
    """Open one gate while the others of its block stay as they are by nature.

    ``sign t_c - weight * mean_{k != c} t_k^2`` with ``t = (z - mean) / sd`` over natural images. To close it give
    ``sign=-1``: negated, the objective would drive the others away.

    Args:
        site: a site of ``fv.gates(model)``, or its name.
        unit: the channel, or one an image.
        natural: the block's statistics over natural images.
        weight: of the others.
        sign: 1 opens the gate, -1 closes it.
    """

    def __init__(
        self, site: GateSite | str, unit: Units, natural: GateStatistics, *, weight: float = 1.0, sign: int = 1
    ) -> None:
        super().__init__(site, unit, "contrast" if sign > 0 else "-contrast", [GATE])
        self.natural, self.weight, self.sign = natural, weight, sign
        statistics = natural[self.site_name]
        self.mean = nn.Buffer(statistics.logit_mean)
        self.sd = nn.Buffer(_spread(statistics.logit_sd))

    def forward(self, activations: Activations) -> Tensor:
        t = (activations[self.layers[0]] - self.mean) / self.sd  # [M,C]
        unit = self.index[activations.rows.image] if self.n > 1 else self.index.expand(len(t))
        own = t.gather(1, unit[:, None])[:, 0]
        others = (t.square().sum(1) - own.square()) / (t.shape[1] - 1)
        return self.sign * own - self.weight * others

    def of(self, unit: Units) -> Objective:
        return GateContrast(self.site_name, unit, self.natural, weight=self.weight, sign=self.sign)


@final
class Quadrant(SiteObjective):
    """One of the four ways in which a channel and its gate can meet: content high or low, gate open or shut.

    High and open is the feature seen and passed on; high and shut is a feature that is there but vetoed; low and open
    is a gate that waits for what is absent. With ``t = +-(v - quantile) / sd``, how far each has passed its natural
    quantile on the side asked for, the score is the smooth minimum ``-log(exp(-4 t_x) + exp(-4 t_z)) / 4``: whichever
    lags behind is what the image works on.

    Args:
        site: a site of ``fv.gates(model)``, or its name.
        unit: the channel, or one an image.
        natural: the block's statistics over natural images, with squeezes.
        content: "high" or "low", of the channel's mean before the gate.
        gate: "open" or "shut", by its logit.
        level: the quantile to pass, 0.9; for low and shut 1 - level.
    """

    def __init__(
        self,
        site: GateSite | str,
        unit: Units,
        natural: GateStatistics,
        *,
        content: str = "high",
        gate: str = "open",
        level: float = 0.9,
    ) -> None:
        if content not in ("high", "low") or gate not in ("open", "shut"):
            raise InvalidInput(
                f"Quadrant got content={content!r}, gate={gate!r}; expected 'high' or 'low', and 'open' or 'shut'"
            )
        super().__init__(site, unit, f"{content}-{gate}", [CONTENT, GATE])
        self.natural, self.content, self.gate, self.level = natural, content, gate, level
        high, open_ = content == "high", gate == "open"
        self.signs = (1.0 if high else -1.0, 1.0 if open_ else -1.0)
        squeeze = [natural.quantile(self.site_name, level if high else 1 - level, of="squeeze"),
                   _spread(natural[self.site_name].squeeze_sd)]  # fmt: skip
        logit = [
            natural.quantile(self.site_name, level if open_ else 1 - level),
            _spread(natural[self.site_name].logit_sd),
        ]
        units = list(self.units)
        self.targets = nn.Buffer(torch.stack([torch.stack([q[units], sd[units]]) for q, sd in (squeeze, logit)]))

    def forward(self, activations: Activations) -> Tensor:
        image = activations.rows.image if self.n > 1 else torch.zeros_like(activations.rows.image)
        ahead = [
            sign * (self.read(activations, kind) - quantile[image]) / sd[image]
            for kind, sign, (quantile, sd) in zip((CONTENT, GATE), self.signs, self.targets, strict=True)
        ]
        return -torch.logsumexp(-4 * torch.stack(ahead), 0) / 4

    def of(self, unit: Units) -> Objective:
        return Quadrant(self.site_name, unit, self.natural, content=self.content, gate=self.gate, level=self.level)


def driven(leaf: Objective) -> Iterator[Gate]:
    """The gate that an objective drives, for reports, if it is about one."""
    if isinstance(leaf, Gate):
        yield leaf
    elif isinstance(leaf, (GateValue, GateContrast, GatedChannel, Quadrant)):
        yield Gate(leaf.site_name, leaf.units[0] if leaf.n == 1 else leaf.units)


def _spread(sd: Tensor) -> Tensor:
    """A gate that hardly varies would count for all the others; it is taken to vary by a hundredth of their median."""
    return sd.clamp(min=max(float(sd.median()) / 100, math.ulp(1.0)))
