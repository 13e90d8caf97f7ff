"""Feature accentuation: what a goal changes in a picture while a layer still sees that picture."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from featureviz import Activations, Objective, TappedModel, check_pictures, zoo
from objectives_zoo.inversion.paired import PairedObjective

SMALL = 1e-3  # relative to the picture's activations: at the picture itself the distance is smooth


@zoo.entry('features.6:3 - 4*deviation(features.3, "photo.png")', beside="features.6:3")
@final
class Deviation(PairedObjective):
    """How far the activations of a layer are from those of a picture, position by position: a cost.

    ``mean_p sqrt(|a_p - t_p|^2 + e^2) - e`` over positions p, relative to the mean length of t_p; e is 0.001 of that,
    so that the slope exists at the picture itself. t is the picture's through the same draws. A goal minus this is a
    feature accentuation: start from the picture, ``render(..., image=picture)``.

    Source: Hamblin et al. 2024. Weight: theirs times ``balance(model, goal, layer, picture)``, which makes the
    slopes of both terms equal near the picture; 4 suits a channel of this network, and 12 keeps more of the
    picture. It costs a forward of the picture in each step.

    Positions are those of a map or the tokens of a transformer; a vector has one.
    """

    def forward(self, activations: Activations) -> Tensor:
        a, t = self.pair_by_channel(activations)
        length = t.norm(dim=1).mean(1, keepdim=True).clamp(min=1e-12)  # [M,1]
        square = (a - t).square().sum(1) / length.square()  # [M,P]
        return ((square + SMALL**2).sqrt() - SMALL).mean(1)


def balance(model: TappedModel, goal: Objective, layer: str, picture: Any) -> float:
    """The weight of ``Deviation`` at which its slope for the picture's pixels has the size of the goal's.

    Measured once, a hundredth of grey along the goal's gradient from the picture: at the picture it is 0.
    """
    pixels = check_pictures(picture, model.channels).to(model.device)
    goal_slope = _slope(model, goal, pixels)
    near = (pixels + 1e-2 * goal_slope.sign()).clamp(0, 1)
    return float(goal_slope.abs().sum() / _slope(model, Deviation(layer, pixels), near).abs().sum())


def _slope(model: TappedModel, goal: Objective, pixels: Tensor) -> Tensor:
    moved = pixels.clone().requires_grad_()
    return torch.autograd.grad(goal(model(moved, goal.layers)).sum(), moved)[0]
