"""The difference from a picture."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('features.6:3 - 10*input_diff(input, "photo.png")', beside="features.6:3")
@final
class InputDiff(PairedObjective):
    """How far a view is from the same view of a picture: a cost, to change as little of the picture as needed.

    ``sqrt(mean (x - x0)^2)`` over a view, where x0 is the picture through the same draws.

    Source: Lucid's ``input_diff``. Weight 10 beside the mean of a channel of this network: a difference of 0.1
    everywhere costs 1; 30 keeps more of the picture. It costs a forward of the picture in each step. Start from the
    picture too, with ``render(..., image=picture)``.

    It is meant for ``"input"``; on a layer it is the distance of activations, on maps, tokens and vectors alike.

    >>> import torch
    >>> InputDiff("input", torch.zeros(3, 4, 4)).layers
    ('input',)
    """

    def forward(self, activations: Activations) -> Tensor:
        a, target = self.pair(activations)
        return ((a - target).square().mean(1) + 1e-12).sqrt()
