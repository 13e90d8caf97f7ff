"""What a caller may ask for: an objective, a spec, or a list of them; made ready for a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from featureviz.checks import show
from featureviz.errors import InvalidInput
from featureviz.network.activations import Activations
from featureviz.network.model import TappedModel
from featureviz.network.taps import ALPHA, IMAGE
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.gate_leaves import Gate
from featureviz.objectives.latents.latent import Latent
from featureviz.objectives.leaves import Channel, Logit
from featureviz.objectives.spec import parse

Goal = Objective | str | Sequence[Objective | str]


def as_objective(goal: Goal) -> Objective:
    """The goal as an objective; each entry of a list is for one image."""
    if isinstance(goal, Sequence) and not isinstance(goal, (str, bytes)):
        return PerImage([_as_single(entry) for entry in goal])
    return _as_single(goal)


def _as_single(goal: Any) -> Objective:
    if isinstance(goal, Objective):
        return goal
    if isinstance(goal, str):
        return parse(goal)
    raise InvalidInput(
        f"{show(goal)} was given; expected an objective or a spec such as 'features.12:17', or a list of them"
    )


def prepare(objective: Objective, model: TappedModel) -> Objective:
    """A copy on the model's device with labels and latents resolved, so that a step needs no work of the host."""
    holder: Any = nn.ModuleList([copy.deepcopy(objective)])
    for parent in list(holder.modules()):
        for name, child in list(parent._modules.items()):  # with those that occur twice
            if isinstance(child, Logit):
                setattr(parent, name, child.resolve(model.labels))
            elif isinstance(child, Latent) and child.weight is None:
                setattr(parent, name, child.resolve(model.dictionaries))
    return holder.to(model.device)[0]


def network_layers(objective: Objective, alpha: bool) -> tuple[str, ...]:
    """The layers of the network that it reads; ``".alpha"`` is one of the image, if it has ``alpha``.

    Raises ``InvalidInput`` if it reads the alpha channel of an image that has none.
    """
    if ALPHA in objective.layers and not alpha:
        raise InvalidInput(
            f"{objective.spec} reads the alpha channel {ALPHA!r}, which this image has not; give image=fv.AlphaImage"
        )
    layers = tuple(layer for layer in objective.layers if layer != ALPHA)
    return layers or (IMAGE,)


def score_views(objective: Objective, activations: Activations) -> Tensor:
    """``objective(activations)``, ``[M]`` float32.

    Raises:
        InvalidInput: it gives something else than a real number for each view.
    """
    score: Any = objective(activations)
    views = len(activations.rows)
    if not isinstance(score, Tensor) or score.is_complex() or score.shape != (views,):
        kind = "complex scores" if isinstance(score, Tensor) and score.is_complex() else "scores"
        given = f"{kind} of shape {list(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
        raise InvalidInput(
            f"{objective.spec} gave {given} for {views} views; expected [{views}], one a view, as a tensor of"
            " real numbers: reduce over everything but the batch"
        )
    return score.float()


def merge_per_image(objectives: Sequence[Objective]) -> Objective:
    """One objective for each image; units of the same layer become a single gather.

    >>> merge_per_image([Channel("features.3", 1), Channel("features.3", 7)])
    features.3:[1, 7]
    >>> merge_per_image([Channel("features.3", 1), -Channel("features.3", 7)])
    [features.3:1, -features.3:7]
    """
    first, *rest = objectives
    if not rest:
        return first
    same = len({(type(o), o.layers, o.n) for o in objectives}) == 1
    if same and isinstance(first, (Channel, Gate)):
        return first.with_units([u for o in objectives if isinstance(o, (Channel, Gate)) for u in o.units])
    return PerImage(objectives)
