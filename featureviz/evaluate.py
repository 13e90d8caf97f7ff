"""Judging images by views they were not optimised on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from featureviz.activations import Rows
from featureviz.errors import InvalidInput
from featureviz.gate_objectives import driven
from featureviz.model import TappedModel, tapped
from featureviz.objective import Objective, PerImage
from featureviz.objectives import Logit
from featureviz.rng import HELD_OUT, Rng
from featureviz.spec import parse
from featureviz.transform import Pipeline, robust

CHUNK = 64  # views a forward


Goal = Objective | str | Sequence[Objective | str]


@final
@dataclass(frozen=True)
class HeldOut:
    """Scores ``[V,N]`` of N images under V fresh draws; where an image's goal holds gates, also those.

    ``gates[i]`` and ``logits[i]`` map the spec of each gate in the goal of image i to its values ``[V]``.
    """

    scores: Tensor
    gates: tuple[dict[str, Tensor], ...]
    logits: tuple[dict[str, Tensor], ...]


def evaluate(
    model: TappedModel,
    objective: Goal,
    images: Tensor,
    *,
    draws: int = 16,
    transforms: Iterable[nn.Module] | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> HeldOut:
    """Score ``images`` ``[N,C,H,W]`` in [0,1] under ``draws`` draws of ``transforms`` that no ascent has seen.

    ``transforms`` are :func:`robust` unless given, whatever the images were made under, so that figures compare. Draws
    are keyed by ``seed`` and by each image's number, 0, 1, 2... if left out.
    """
    model, objective = tapped(model), prepared(as_objective(objective), model)
    pipeline = Pipeline(robust() if transforms is None else transforms).to(model.device)
    size = model.input_size((images.shape[-2], images.shape[-1]))
    if numbers is not None and len(numbers) != len(images):
        raise InvalidInput(f"numbers={list(numbers)} was given for {len(images)} images; expected one each")
    keys = torch.arange(len(images)) if numbers is None else torch.tensor(numbers)
    scores: list[Tensor] = []
    gates: list[dict[str, Tensor]] = []
    logits: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for rows in torch.arange(len(images)).split(len(images) if objective.across_batch else max(1, CHUNK // draws)):
            goals = [[g for leaf in objective.goal(i).leaves() for g in driven(leaf)] for i in rows.tolist()]
            read = [layer for goal in goals for gate in goal for layer in (*gate.layers, gate.value_layer)]
            layers = dict.fromkeys([*objective.layers, *read])
            rng = Rng(seed, keys[rows], draws, model.device, step=HELD_OUT)
            views = pipeline(images[rows].to(model.device).float(), rng, size)
            activations = model(views, tuple(layers), Rows.of(rows.tolist(), draws, model.device))
            scores.append(objective(activations).view(-1, draws).cpu())
            for goal, part in zip(goals, activations.per_image(), strict=True):
                gates.append({gate.spec: gate.value(part).float().cpu() for gate in goal})
                logits.append({gate.spec: gate(part).float().cpu() for gate in goal})
    return HeldOut(torch.cat(scores).T.contiguous(), tuple(gates), tuple(logits))


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
