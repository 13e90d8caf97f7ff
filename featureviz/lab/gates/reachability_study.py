"""Whether gates can be opened and shut: by pictures, by mixtures of their squeezes, by natural squeezes, by renders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from featureviz.checks import whole, wholes
from featureviz.errors import InvalidInput
from featureviz.lab.gates.natural_range import GateResponse, gate_values, measure_responses
from featureviz.lab.gates.reachability import SqueezeEllipsoid, reachable_range, share_of_way
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.measuring import OPEN, SHUT
from featureviz.network.activations import Activations
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.taps import PRE_GATE
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import Gate
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate

BATCH = 16  # gates in a render
REACHED, FAILED, PAST_PICTURES = "reached", "failed ascent", "past all pictures"
IMPOSSIBLE, PAST_BOUND = "impossible", "past natural bound"


@final
class SqueezeDistance(Objective):
    """The distance of a view's squeeze from the natural mean, in radii of the ellipsoid of natural squeezes."""

    def __init__(self, site: GateSite, ellipsoid: SqueezeEllipsoid) -> None:
        super().__init__([PRE_GATE + site.name])
        self.site, self.ellipsoid = site, ellipsoid

    def forward(self, activations: Activations) -> Tensor:
        return self.ellipsoid.distance(self.site.squeezed(activations[self.layers[0]]))


class RenderedEnd(NamedTuple):
    """How far one gate was brought in one direction."""

    mixture: float  # the most extreme logit of mixtures of the pictures' squeezes
    bound: float  # the most extreme logit of natural squeezes
    bound_value: float  # the gate's value at ``bound``
    logit: float  # of the render on held-out views
    value: float  # the gate's value on these views
    way: float  # the share of the way from the natural mean to ``bound`` that the render has gone
    mixed: float  # the same for ``mixture``
    radii: float  # of the render's squeeze, as ``SqueezeDistance`` measures it
    verdict: str  # of ``judge``


class GateReach(NamedTuple):
    """A gate: the least, 0.1 %, mean, 99.9 % and largest logit of ``pictures``, and its two rendered ends."""

    unit: int
    pictures: list[float]
    suppressed: RenderedEnd
    excited: RenderedEnd


def judge(value: float, bound_value: float, way: float, mixed: float, *, up: bool) -> str:
    """The verdict on a render, from its gate value, the value at the natural bound, and the two shares of the way.

    ``PAST_BOUND``: the logit is past the natural bound. Otherwise ``REACHED``: the gate is open or shut. Otherwise
    ``IMPOSSIBLE``: no natural squeeze opens or shuts it; ``PAST_PICTURES``: the render went further than any mixture;
    ``FAILED``: a mixture goes further than the render.
    """
    reached, possible = ((v >= OPEN if up else v <= SHUT) for v in (value, bound_value))
    if way > 1:
        return PAST_BOUND
    if reached or not possible:
        return REACHED if reached else IMPOSSIBLE
    return PAST_PICTURES if mixed >= 1 else FAILED


@final
class ReachabilityStudy:
    """A block, its natural statistics, and how far natural squeezes can bring its gates."""

    def __init__(self, model: TappedModel, site: GateSite, natural: GateStatistics) -> None:
        self.model, self.site, self.natural = model, site, natural
        self.reachable = reachable_range(model, site, natural)

    def render_gates(self, units: Sequence[int], *, steps: int, size: int) -> tuple[list[GateReach], Tensor]:
        """Suppress and excite each gate: the results, and the renders ``[U,2,3,H,W]`` (suppressed, excited)."""
        s, name = self.natural[self.site.name], self.site.name
        low, high = (self.natural.quantile(name, level) for level in (0.001, 0.999))
        marks = torch.stack([s.quantiles[0], low, s.logit_mean, high, s.quantiles[-1]], 1)
        (down, dark), (up, light) = (self._render_ends(units, steps, size, up=up) for up in (False, True))
        gates = [GateReach(u, marks[u].tolist(), d, e) for u, d, e in zip(units, down, up, strict=True)]
        return gates, torch.stack([dark, light], 1)

    def values(self, unit: int, logits: Tensor) -> Tensor:
        """The values of a gate at logits ``[L]``."""
        return gate_values(self.model, self.site, self.natural, unit, logits)

    def _render_ends(
        self, units: Sequence[int], steps: int, size: int, *, up: bool
    ) -> tuple[list[RenderedEnd], Tensor]:
        ends, images = [], []
        distance = SqueezeDistance(self.site, self.reachable.ellipsoid)
        for first in range(0, len(units), BATCH):
            batch = list(units[first : first + BATCH])
            gate = Gate(self.site, batch)
            ids = [0] * len(batch)  # so that a result does not depend on the batch
            made = render(self.model, gate if up else -gate, steps=steps, size=size, image_ids=ids)
            renders = made.completed().images
            responses = measure_responses(self.model, self.natural, self.site.name, batch, renders)
            radii = evaluate(self.model, distance, renders, image_ids=ids).scores.mean(0).tolist()
            ends += [self._end(u, r, d, up=up) for u, r, d in zip(batch, responses, radii, strict=True)]
            images.append(renders)
        return ends, torch.cat(images)

    def _end(self, unit: int, response: GateResponse, radii: float, *, up: bool) -> RenderedEnd:
        logit, value, r = response.logit, response.value, self.reachable
        bounds, hull = (r.high, r.hull_high) if up else (r.low, r.hull_low)
        mean, bound, mixture = float(r.mean[unit]), float(bounds[unit]), float(hull[unit])
        bound_value = float(self.values(unit, torch.tensor([bound], dtype=torch.float32, device="cpu"))[0])
        way, mixed = share_of_way(mean, bound, logit), share_of_way(mean, mixture, logit)
        verdict = judge(value, bound_value, way, mixed, up=up)
        return RenderedEnd(mixture, bound, bound_value, logit, value, way, mixed, radii, verdict)


def choose_gates(natural: GateStatistics, site: GateSite, units: Sequence[int] | None, count: int) -> list[int]:
    """The given gates, or ``count`` gates evenly spaced between the one that varies most and the one that varies least.

    Gates that are constant over the pictures are never chosen.
    """
    if units:
        units = wholes("units", units)
        check_units(site.name, units, site.channels)
        return list(dict.fromkeys(units))
    count = whole("count", count, 1)
    sd = natural[site.name].logit_sd
    order = sd.argsort(descending=True, stable=True)[: int((sd > 0).sum())]
    if not len(order):
        raise InvalidInput(f"no gate of {site.name} varies over the pictures; name the gates")
    return order[
        torch.linspace(0, len(order) - 1, min(count, len(order)), dtype=torch.float32, device="cpu").round().long()
    ].tolist()
