"""Objectives on a gate held against natural images: its contrast to its block, and its four quadrants."""

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
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import SiteObjective


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
        self, site: GateSite | str, unit: Units, natural: NaturalGates, *, weight: float = 1.0, sign: int = 1
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
        super().__init__(site, unit, f"{content}-{gate}", [PRE_GATE, GATE])
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
            for kind, sign, (quantile, sd) in zip((PRE_GATE, GATE), self.signs, self.targets, strict=True)
        ]
        return -torch.logsumexp(-4 * torch.stack(ahead), 0) / 4

    def of(self, unit: Units) -> Objective:
        return Quadrant(self.site_name, unit, self.natural, content=self.content, gate=self.gate, level=self.level)


def _spread(sd: Tensor) -> Tensor:
    """A gate that hardly varies would count for all the others; it is taken to vary by a hundredth of their median."""
    return sd.clamp(min=max(float(sd.median()) / 100, math.ulp(1.0)))
