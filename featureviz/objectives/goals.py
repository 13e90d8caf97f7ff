"""What a caller may ask for, as one objective on a model's device: an objective, a spec, or a list of either."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from featureviz.errors import InvalidInput
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.leaves import Channel, Gate, Logit
from featureviz.objectives.spec import parse

Goal = Objective | str | Sequence[Objective | str]


def as_objective(goal: Goal) -> Objective:
    """An objective from itself, a spec string, or a list of either (one an image)."""
    if isinstance(goal, Objective):
        return goal
    if isinstance(goal, str):
        return parse(goal)
    if isinstance(goal, Sequence):
        return PerImage([as_objective(g) for g in goal])
    raise InvalidInput(f"an objective was expected, or a spec such as 'features.12:17'; {goal!r} was given")


def prepared(objective: Objective, model: TappedModel) -> Objective:
    """A copy on the model's device, with labels looked up, so that a step asks nothing of the host."""
    if isinstance(objective, Logit):
        return copy.deepcopy(objective.resolved(model.labels)).to(model.device)
    twin = copy.deepcopy(objective)
    for parent in list(twin.modules()):
        for name, part in parent.named_children():
            if isinstance(part, Logit):
                setattr(parent, name, part.resolved(model.labels))
    return twin.to(model.device)


def per_image(objectives: Sequence[Objective]) -> Objective:
    """One objective an image; units of one layer become a single gather.

    >>> per_image([Channel("features.3", 1), Channel("features.3", 7)])
    features.3:[1, 7]
    >>> per_image([Channel("features.3", 1), -Channel("features.3", 7)])
    [features.3:1, -features.3:7]
    """
    first, *_ = objectives
    alike = len({(type(o), o.layers, o.n) for o in objectives}) == 1 and len(objectives) > 1
    if alike and isinstance(first, Channel):
        return Channel(first.layers[0], [u for o in objectives if isinstance(o, Channel) for u in o.units])
    if alike and isinstance(first, Gate):
        return Gate(first.site_name, [u for o in objectives if isinstance(o, Gate) for u in o.units])
    return first if len(objectives) == 1 else PerImage(objectives)
