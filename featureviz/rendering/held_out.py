"""Judging images by views they were not optimised on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.network.activations import Rows
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import GatedChannel, GateValue
from featureviz.objectives.goals import Goal, as_objective, prepared
from featureviz.objectives.leaves import Gate
from featureviz.objectives.quadrant import GateContrast, Quadrant
from featureviz.rng import HELD_OUT, Rng
from featureviz.transform import Pipeline, robust

CHUNK = 64  # views a forward


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
    image_ids: Sequence[int] | None = None,
) -> HeldOut:
    """Score ``images`` ``[N,C,H,W]`` in [0,1] under ``draws`` draws of ``transforms`` that no ascent has seen.

    ``transforms`` are ``robust`` unless given, whatever the images were made under, so that figures compare. Draws
    are keyed by ``seed`` and by each image's number, 0, 1, 2... if left out.
    """
    model, objective = tapped(model), prepared(as_objective(objective), model)
    pipeline = Pipeline(robust() if transforms is None else transforms).to(model.device)
    size = model.input_size((images.shape[-2], images.shape[-1]))
    if image_ids is not None and len(image_ids) != len(images):
        raise InvalidInput(f"image_ids={list(image_ids)} was given for {len(images)} images; expected one each")
    keys = torch.arange(len(images)) if image_ids is None else torch.tensor(image_ids)
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


def driven(leaf: Objective) -> Iterator[Gate]:
    """The gate that an objective drives, for reports, if it is about one."""
    if isinstance(leaf, Gate):
        yield leaf
    elif isinstance(leaf, (GateValue, GateContrast, GatedChannel, Quadrant)):
        yield Gate(leaf.site_name, leaf.units[0] if leaf.n == 1 else leaf.units)
