"""Where images stand among natural ones: how far they bring a gate, and its channel's content, on unseen views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from featureviz.lab.gates.reachability import Bounds
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.gate_leaves import Gate, PreGate
from featureviz.rendering.held_out import evaluate

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import GateStatistics

CORNERS = (("high", "open"), ("high", "shut"), ("low", "open"), ("low", "shut"))  # of content and gate
LEVEL = 0.9  # the natural quantile that is high, or open; 0.1 is low, or shut
SHORT, BEYOND, PAST = "short", "beyond", "past"


@final
@dataclass(frozen=True)
class Standing:
    """What an image does to one gate, means over held-out views, and the percentiles of these among natural images.

    ``logit`` and ``value`` are the gate's, ``content`` is the mean of its channel before the gate.
    """

    logit: float
    value: float
    content: float
    percentile: float
    content_percentile: float

    def reached(self, content: str, gate: str) -> tuple[bool, bool]:
        """Whether the content is "high" or "low" and the gate "open" or "shut", as a tenth of nature is."""
        sides = ((self.content_percentile, content == "high"), (self.percentile, gate == "open"))
        content_there, gate_there = (p >= 100 * LEVEL if up else p <= 100 * (1 - LEVEL) for p, up in sides)
        return content_there, gate_there


def standings(
    model: TappedModel, natural: GateStatistics, site: str, units: Sequence[int], images: Tensor, *, seed: int = 0
) -> list[Standing]:
    """Image i of ``[N,3,H,W]`` in [0,1] and gate ``units[i]``, on the 16 views of ``held_out``.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> natural = fv.lab.GateStatistics.measure(model, torch.rand(4, 3, 64, 64))
    >>> (one,) = standings(model, natural, "features.9.block.2", [7], torch.rand(1, 3, 64, 64))
    >>> 0 <= one.value <= 1 and 0 <= one.percentile <= 100
    True
    """
    both = PreGate(site, units) + 0 * Gate(site, units)  # scores are the content; the gate is reported beside them
    seen = evaluate(model, both, images, seed=seed)
    contents = seen.scores.mean(0)
    found = []
    for i, unit in enumerate(units):
        (values,), (logits,) = seen.gates[i].values(), seen.logits[i].values()
        logit, content = logits.mean()[None], contents[i : i + 1]
        percentile = natural.percentile(site, unit, logit)
        content_percentile = natural.percentile(site, unit, content, of="squeeze")
        numbers = (logit, values.mean(), content, percentile, content_percentile)
        found.append(Standing(*(float(n) for n in numbers)))
    return found


@final
@dataclass(frozen=True)
class Reach:
    """How far a gate's logit was brought up or down, against what nature gives.

    ``picture`` is the outermost logit of the natural pictures, ``bound`` that of mixtures of their squeezes and
    ``ellipsoid`` that of squeezes as unusual as theirs in any direction (``bounds``); ``share`` is
    how much of the way from the natural mean to ``bound`` was gone. All three are None where logits are no function of
    a squeeze.
    """

    up: bool
    logit: float
    picture: float
    bound: float | None = None
    ellipsoid: float | None = None
    share: float | None = None

    @property
    def verdict(self) -> str:
        """``"short"``: a picture does more; ``"past"``: no mixture of squeezes does; else ``"beyond"`` pictures."""
        sign = 1 if self.up else -1
        if sign * self.logit <= sign * self.picture:
            return SHORT
        return PAST if self.bound is not None and sign * self.logit > sign * self.bound else BEYOND


def reach(natural: GateStatistics, site: str, unit: int, logit: float, found: Bounds | None, *, up: bool) -> Reach:
    """How far ``logit`` is of what nature gives, upwards or downwards."""
    picture = float(natural[site].quantiles[-1 if up else 0, unit])
    if found is None:
        return Reach(up, logit, picture)
    ends = (found.hull_high, found.high) if up else (found.hull_low, found.low)
    end, far, mean = float(ends[0][unit]), float(ends[1][unit]), float(found.mean[unit])
    return Reach(up, logit, picture, end, far, (logit - mean) / (end - mean) if end != mean else 0.0)


def gate_values(model: TappedModel, site: GateSite, natural: GateStatistics, unit: int, logits: Tensor) -> Tensor:
    """The gate's values for ``logits`` ``[L]``, all other gates at their natural means; on the CPU.

    >>> import featureviz as fv
    >>> model, natural = fv.load("embedded"), fv.lab.natural_gates()
    >>> site = fv.gates(model)["features.9.block.2"]
    >>> gate_values(model, site, natural, 7, torch.tensor([-3.0, 0.0, 3.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    z = natural[site.name].logit_mean.repeat(len(logits), 1)
    z[:, unit] = logits
    with torch.no_grad():
        return site.nonlinearity(z.to(model.device))[:, unit].float().cpu()


def corner_shares(natural: GateStatistics, site: str, unit: int) -> dict[tuple[str, str], float]:
    """The share of natural images in each corner of content and gate; 0.01 each, were the two independent."""
    s = natural[site]
    content = _ends(s.squeeze_sample[:, unit], natural, site, unit, "squeeze")
    gate = _ends(s.logit_sample[:, unit], natural, site, unit, "logits")
    high, low, open_, shut = *content, *gate
    sides = {"high": high, "low": low, "open": open_, "shut": shut}
    return {(c, g): float((sides[c] & sides[g]).float().mean()) for c, g in CORNERS}


def _ends(sample: Tensor, natural: GateStatistics, site: str, unit: int, of: str) -> tuple[Tensor, Tensor]:
    kind = "squeeze" if of == "squeeze" else "logits"
    high, low = (natural.quantile(site, level, of=kind)[unit] for level in (LEVEL, 1 - LEVEL))
    return sample >= high, sample <= low
