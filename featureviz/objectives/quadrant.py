"""Objectives that compare a gate with its values on natural images: its contrast to its block, its four quadrants."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.naming import Units
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite, NaturalGates
from featureviz.network.taps import GATE, PRE_GATE
from featureviz.objectives.gate_leaves import SiteObjective


@final
class GateContrast(SiteObjective):
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
        kind = "contrast" if sign > 0 else "-contrast"
        super().__init__(site, unit, kind, natural=natural, weight=weight, sign=sign)
        self.weight, self.sign = weight, sign
        statistics = natural[self.site_name]
        self.mean_logit = nn.Buffer(statistics.logit_mean)
        self.sd = nn.Buffer(_clamp_sd(statistics.logit_sd))

    def forward(self, activations: Activations) -> Tensor:
        t = (activations[self.layers[0]] - self.mean_logit) / self.sd  # [M,C]
        unit = self.index[activations.rows.image] if self.n > 1 else self.index.expand(len(t))
        own = t.gather(1, unit[:, None])[:, 0]
        others = (t.square().sum(1) - own.square()) / (t.shape[1] - 1)
        return self.sign * own - self.weight * others


@final
class Quadrant(SiteObjective):
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
        InvalidInput: for any other ``content`` or ``gate``.
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
        if content not in ("high", "low") or gate not in ("open", "shut"):
            raise InvalidInput(
                f"Quadrant got content={content!r}, gate={gate!r}; expected 'high' or 'low', and 'open' or 'shut'"
            )
        super().__init__(site, unit, f"{content}-{gate}", natural=natural, content=content, gate=gate, level=level)
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
