"""One objective rendered while the gates of a block are left alone, fixed, or passed without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from featureviz.gating.interventions import clamp, mean_ablate, stop_gradient
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate

Interventions = Mapping[str, Callable[[], AbstractContextManager[Any]]]


class IntervenedRender(NamedTuple):
    """A render under an intervention, and its held-out scores."""

    way: str
    image: Tensor  # [3,H,W]
    own: float  # the score under the intervention
    plain: float  # the score on the network without it
    constant: bool  # no step changed the score, so the image is the noise that the ascent began with


def gate_interventions(model: TappedModel, site: str, natural: GateStatistics | None = None) -> Interventions:
    """Interventions on all gates of a block, by name; each can be used as often as needed."""
    interventions: dict[str, Callable[[], AbstractContextManager[Any]]] = {"the gates as they are": nullcontext}
    interventions |= {f"all gates clamped to {v}": partial(clamp, model, site, float(v)) for v in (1, 0)}
    if natural is not None:
        interventions["each at its natural mean"] = partial(mean_ablate, model, site, natural)
    return {**interventions, "no gradient through gates": partial(stop_gradient, model, site)}


def render_under(
    model: TappedModel, objective: Objective, interventions: Interventions, *, steps: int, size: int
) -> list[IntervenedRender]:
    """Render an objective of one image under each intervention, from the same noise."""
    results: list[IntervenedRender] = []
    for way, intervention in interventions.items():
        with intervention():
            result = render(model, objective, steps=steps, size=size).completed()
        plain = float(evaluate(model, objective, result.images).scores.mean())
        constant = bool(result.scores.amax() == result.scores.amin())
        own = float(result.held_out.scores.mean())
        results.append(IntervenedRender(way, result.images[0], own, plain, constant))
    return results
