"""Objectives that compare a gate with its values on natural images: its contrast to its block, its four quadrants.

Their specs are calls without the statistics, ``Quadrant(SITE, 3, content="high", gate="shut")``. ``parse`` reads them
if it is given the class with the statistics: ``{"Quadrant": functools.partial(fv.Quadrant, natural=natural)}``.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import choice, finite, show
from featureviz.errors import InvalidInput
from featureviz.naming import Units, write_call
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite, NaturalGates
from featureviz.network.taps import GATE, PRE_GATE
from featureviz.objectives.gate_leaves import SiteObjective


class _NaturalObjective(SiteObjective):
    """A score of one unit of a gated block, by its block's statistics on natural images: abstract."""

    def __init__(self, site: GateSite | str, unit: Units, natural: NaturalGates, **options: Any) -> None:
        super().__init__(site, unit, natural=natural, **options)
        owner = f"{type(self).__name__}({self.site_name!r})"
        if isinstance(site, GateSite) and site.spatial:
            raise InvalidInput(f"{owner}: the gate is spatial, one number for each position; give a channel gate")
        if not isinstance(natural, NaturalGates) or isinstance(natural, Tensor):  # which has quantiles too
            raise InvalidInput(f"{owner} got natural={show(natural)}; expected fv.lab.GateStatistics of the network")
        self.gates = natural[self.site_name].logit_mean.numel()
        if max(self.units) >= self.gates:
            raise InvalidInput(f"{owner} got unit {max(self.units)}; it has {self.gates}: 0 to {self.gates - 1}")

    def describe(self, **keywords: Any) -> str:
        """The spec, with the arguments that are not natural statistics."""
        unit = list(self.units) if self.n > 1 else self.units[0]
        return write_call(type(self).__name__, [self.site_name, unit], keywords)


@final
class GateContrast(_NaturalObjective):
    """Open one gate and keep the other gates of its block at their natural mean.

    ``sign t_c - weight * mean_{k != c} t_k^2`` with ``t = (z - mean) / sd`` over natural images. To close the gate give
    ``sign=-1``; the negated objective would also reward a large deviation of the other gates.

    Args:
        site, unit: as for ``Gate``.
        natural: the block's statistics over natural images.
        weight: of the penalty on the other gates.
        sign: 1 opens the gate, -1 closes it.
    """

    TAPS = (GATE,)

    def __init__(
        self, site: GateSite | str, unit: Units, natural: NaturalGates, *, weight: float = 1.0, sign: int = 1
    ) -> None:
        side, penalty = finite("GateContrast: sign", sign), finite("GateContrast: weight", weight)
        if side not in (1, -1) or penalty < 0:
            raise InvalidInput(
                f"GateContrast got sign={sign}, weight={weight}; expected 1 to open the gate or -1 to close it, and a"
                " weight of at least 0"
            )
        super().__init__(site, unit, natural, weight=weight, sign=sign)
        if self.gates == 1:
            raise InvalidInput(f"GateContrast({self.site_name!r}): the block has one gate and no others; use Gate")
        self.weight, self.sign = penalty, int(side)
        changed = {"weight": penalty} if penalty != 1 else {}
        self.spec = self.describe(**changed, **({"sign": -1} if side < 0 else {}))
        statistics = natural[self.site_name]
        self.mean_logit = nn.Buffer(statistics.logit_mean)
        self.sd = nn.Buffer(_clamp_sd(statistics.logit_sd))

    def forward(self, activations: Activations) -> Tensor:
        logits, images = activations[self.layers[0]], activations.rows.images
        if logits.shape[1:] != self.mean_logit.shape or (self.n > 1 and max(images) >= self.n):
            raise InvalidInput(
                f"{self.spec}: logits {list(logits.shape)} of image {max(images)} were given; expected {self.gates}"
                f" channel gates and {self.n} images: the statistics are of another network, or units are missing"
            )
        t = (logits - self.mean_logit) / self.sd  # [M,C]
        unit = self.index[activations.rows.image] if self.n > 1 else self.index.expand(len(t))
        own = t.gather(1, unit[:, None])[:, 0]
        others = (t.square().sum(1) - own.square()) / (t.shape[1] - 1)
        return self.sign * own - self.weight * others


@final
class Quadrant(_NaturalObjective):
    """One of the four combinations of a channel and its gate: content high or low, gate open or shut.

    High and open: the feature is present and passed on. High and shut: it is present but suppressed. Low and open: the
    gate is open although the feature is absent. Low and shut: the feature is absent and the gate is closed.

    With ``t = +-(v - quantile) / sd``, the distance by which each of the two has passed its natural quantile in the
    requested direction, the score is the smooth minimum ``-log(exp(-4 t_x) + exp(-4 t_z)) / 4``. Its gradient is
    largest for the one that has passed less.

    Args:
        site, unit: as for ``Gate``.
        natural: the block's statistics over natural images, with squeezes.
        content: "high" or "low", of the channel's mean before the gate.
        gate: "open" or "shut", of the gate's logit.
        level: the quantile to pass, in (0, 1); for "low" and "shut" it is 1 - level.

    Raises:
        InvalidInput: for any other ``content``, ``gate`` or ``level``, or a unit that the block does not have.
    """

    TAPS = (PRE_GATE, GATE)

    def __init__(
        self,
        site: GateSite | str,
        unit: Units,
        natural: NaturalGates,
        *,
        content: str = "high",
        gate: str = "open",
        level: float = 0.9,
    ) -> None:
        content, gate = choice("content", content, ("high", "low")), choice("gate", gate, ("open", "shut"))
        level = finite("Quadrant: level", level)
        if not 0 < level < 1:
            raise InvalidInput(f"Quadrant got level={level}; expected a share of natural images between 0 and 1")
        super().__init__(site, unit, natural, content=content, gate=gate, level=level)
        self.spec = self.describe(content=content, gate=gate, **({"level": level} if level != 0.9 else {}))
        up = (content == "high", gate == "open")
        self.signs = tuple(1.0 if u else -1.0 for u in up)
        name, levels, units = self.site_name, [level if u else 1 - level for u in up], list(self.units)
        quantiles = (natural.quantile(name, levels[0], of="squeeze"), natural.quantile(name, levels[1]))
        sds = (_clamp_sd(natural[name].squeeze_sd), _clamp_sd(natural[name].logit_sd))
        targets = [torch.stack([q[units], sd[units]]) for q, sd in zip(quantiles, sds, strict=True)]
        self.targets = nn.Buffer(torch.stack(targets))  # [2,2,n]: squeeze and logit; quantile and sd

    def forward(self, activations: Activations) -> Tensor:
        image = activations.rows.image if self.n > 1 else torch.zeros_like(activations.rows.image)
        t = [
            sign * (self.mean(activations, layer) - quantile[image]) / sd[image]
            for layer, sign, (quantile, sd) in zip(self.layers, self.signs, self.targets, strict=True)
        ]
        return -torch.logsumexp(-4 * torch.stack(t), 0) / 4


def _clamp_sd(sd: Tensor) -> Tensor:
    """The standard deviations, each at least a hundredth of their median, so that no constant gate dominates."""
    return sd.clamp(min=max(float(sd.median()) / 100, math.ulp(1.0)))
