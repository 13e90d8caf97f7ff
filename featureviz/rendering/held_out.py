"""Scores of images on views that no ascent has used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.network.activations import Rows
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import Gate, GatedChannel, GateValue
from featureviz.objectives.goals import Goal, as_objective, prepare
from featureviz.objectives.quadrant import GateContrast, Quadrant
from featureviz.rng import HELD_OUT, Rng
from featureviz.transform import Pipeline, robust

CHUNK = 64  # views in one forward


@final
@dataclass(frozen=True)
class HeldOut:
    """Scores ``[V,N]`` of N images on V new random views; and gate values, where the goal of an image has gates.

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
    """Score ``images`` ``[N,C,H,W]`` in [0,1] on ``draws`` random views of each that no ascent has used.

    Args:
        model: the network.
        objective: an objective, a spec, or a list of either, one an image.
        images: what is scored.
        draws: random views of each image.
        transforms: of the views; ``fv.transform.robust()`` if left out, whatever the images were made with, so that
            scores can be compared.
        seed: of the views.
        image_ids: the number of each image, which with the seed decides its views; 0, 1, 2... if left out.

    >>> import featureviz as fv
    >>> evaluate(fv.load("embedded"), "features.6:3", torch.rand(2, 3, 96, 96)).scores.shape
    torch.Size([16, 2])
    """
    model, objective = tapped(model), prepare(as_objective(objective), model)
    pipeline = Pipeline(robust() if transforms is None else transforms).to(model.device)
    size = model.input_size((images.shape[-2], images.shape[-1]))
    if image_ids is not None and len(image_ids) != len(images):
        raise InvalidInput(f"image_ids={list(image_ids)} was given for {len(images)} images; expected one each")
    keys = torch.arange(len(images)) if image_ids is None else torch.tensor(image_ids)
    scores, gates, logits = list[Tensor](), list[dict[str, Tensor]](), list[dict[str, Tensor]]()
    with torch.no_grad():
        for rows in torch.arange(len(images)).split(len(images) if objective.across_batch else max(1, CHUNK // draws)):
            goals = [_find_gates(objective.select([i])) for i in rows.tolist()]
            read = [layer for goal in goals for gate in goal for layer in (*gate.layers, gate.value_layer)]
            layers = dict.fromkeys([*objective.layers, *read])
            rng = Rng(seed, keys[rows], draws, model.device, step=HELD_OUT)
            views = pipeline(images[rows].to(model.device).float(), rng, size)
            activations = model(views, tuple(layers), Rows.make(rows.tolist(), draws, model.device))
            scores.append(objective(activations).view(-1, draws).cpu())
            for goal, part in zip(goals, activations.per_image(), strict=True):
                gates.append({gate.spec: gate.value(part).float().cpu() for gate in goal})
                logits.append({gate.spec: gate(part).float().cpu() for gate in goal})
    return HeldOut(torch.cat(scores).T.contiguous(), tuple(gates), tuple(logits))


def _find_gates(goal: Objective) -> list[Gate]:
    """The gates that an objective is about."""
    leaves = [
        leaf for leaf in goal.leaves() if isinstance(leaf, (Gate, GateValue, GateContrast, GatedChannel, Quadrant))
    ]
    return [Gate(leaf.site_name, leaf.units[0] if leaf.n == 1 else leaf.units) for leaf in leaves]
