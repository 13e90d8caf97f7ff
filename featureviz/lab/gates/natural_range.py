"""What images do to a gate, compared with natural images: percentiles, extremes and reachable bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.lab.gates.reachability import ReachableRange, share_of_way
from featureviz.lab.statistics.gate_statistics import GateStatistics, Quantity
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.gate_leaves import Gate, PreGate
from featureviz.rendering.held_out import evaluate

CORNERS = (("high", "open"), ("high", "shut"), ("low", "open"), ("low", "shut"))  # of content and gate
LEVEL = 0.9  # from this natural quantile on a content is high and a gate open; 0.1 for low and shut
SHORT, BEYOND, PAST = "short", "beyond", "past"


@final
@dataclass(frozen=True)
class GateResponse:
    """What an image does to one gate: means over held-out views, and their percentiles among natural images."""

    logit: float
    value: float
    content: float  # the mean of the gate's channel before the gate
    percentile: float
    content_percentile: float

    def reached(self, content: str, gate: str) -> tuple[bool, bool]:
        """Whether the content is ``"high"`` or ``"low"``, and whether the gate is ``"open"`` or ``"shut"``.

        High and open mean at least the 90th natural percentile; low and shut mean at most the 10th.
        """

        def reaches(percentile: float, up: bool) -> bool:
            return percentile >= 100 * LEVEL if up else percentile <= 100 * (1 - LEVEL)

        return reaches(self.content_percentile, content == "high"), reaches(self.percentile, gate == "open")


def measure_responses(
    model: TappedModel, natural: GateStatistics, site: str, units: Sequence[int], images: Tensor, *, seed: int = 0
) -> list[GateResponse]:
    """The response of gate ``units[i]`` to image i of ``[N,3,H,W]`` in [0,1], on the 16 views of ``evaluate``.

    All images are seen in the same views, so that a response does not depend on the image's place in the batch.
    """
    both = PreGate(site, units) + 0 * Gate(site, units)  # the score is the content; the gate is reported with it
    held_out = evaluate(model, both, images, seed=seed, image_ids=[0] * len(units))
    responses = []
    for i, unit in enumerate(units):
        (values,), (logits,) = held_out.gates[i].values(), held_out.logits[i].values()
        logit, content = logits.mean()[None], held_out.scores[:, i].mean()[None]
        ranks = natural.percentile(site, unit, logit), natural.percentile(site, unit, content, of="squeeze")
        responses.append(GateResponse(*(float(n) for n in (logit, values.mean(), content, *ranks))))
    return responses


@final
@dataclass(frozen=True)
class Reach:
    """How far a gate's logit was brought up or down, compared with the most extreme natural logits."""

    up: bool
    logit: float
    picture: float  # of the natural pictures
    bound: float | None = None  # of mixtures of their squeezes; None if the logits are not a function of the squeeze
    ellipsoid: float | None = None  # of squeezes in the natural ellipsoid
    share: float | None = None  # of the way from the natural mean to ``bound``

    @property
    def verdict(self) -> str:
        """``"short"`` of the most extreme picture, ``"beyond"`` it, or ``"past"`` all mixtures of squeezes too."""
        sign = 1 if self.up else -1
        if sign * self.logit <= sign * self.picture:
            return SHORT
        return PAST if self.bound is not None and sign * self.logit > sign * self.bound else BEYOND


def measure_reach(
    natural: GateStatistics, site: str, unit: int, logit: float, reachable: ReachableRange | None, *, up: bool
) -> Reach:
    """Compare ``logit`` with natural images and with what is reachable, upwards or downwards."""
    picture = float(natural[site].quantiles[-1 if up else 0, unit])
    if reachable is None:
        return Reach(up, logit, picture)
    hull, ellipsoid = (reachable.hull_high, reachable.high) if up else (reachable.hull_low, reachable.low)
    bound, far, mean = float(hull[unit]), float(ellipsoid[unit]), float(reachable.mean[unit])
    return Reach(up, logit, picture, bound, far, share_of_way(mean, bound, logit))


def gate_values(model: TappedModel, site: GateSite, natural: GateStatistics, unit: int, logits: Tensor) -> Tensor:
    """The gate's values for ``logits`` ``[L]``, with all other gates at their natural means; on the CPU."""
    z = natural[site.name].logit_mean.repeat(len(logits), 1)
    z[:, unit] = logits
    with torch.no_grad():
        return site.nonlinearity(z.to(model.device))[:, unit].float().cpu()


def corner_shares(natural: GateStatistics, site: str, unit: int) -> dict[str, float]:
    """The share of natural images in each corner (``"high-open"``, ...): 0.01 if content and gate are independent."""
    s = natural[site]

    def ends(sample: Tensor, of: Quantity) -> tuple[Tensor, Tensor]:
        high, low = (natural.quantile(site, level, of=of)[unit] for level in (LEVEL, 1 - LEVEL))
        return sample[:, unit] >= high, sample[:, unit] <= low

    high, low, open_, shut = *ends(s.squeeze_sample, "squeeze"), *ends(s.logit_sample, "logits")
    sides = {"high": high, "low": low, "open": open_, "shut": shut}
    return {f"{c}-{g}": float((sides[c] & sides[g]).float().mean()) for c, g in CORNERS}
