"""A direction among the activations that are above zero."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz import Activations, Objective, zoo
from objectives_zoo.shapes import Vector, by_position, check_width, numbers


@zoo.entry(
    f"rectified_direction(features.3, {[1, -1] + [0] * 22})",
    beside=f"channel_weights(features.3, {[1, -1] + [0] * 22})",
)
@final
class RectifiedDirection(Objective):
    """A direction in channel space, of the positive parts of the activations.

    ``mean_p sum_c v_c max(0, a_cp)`` over positions p. On a layer after a ReLU it is the plain direction; on one before
    it, channels that are off do not count.

    Source: captum's ``VectorLoss``, and the CLIP facets of Goh et al. 2021. Weight 1: it is a main term.

    Positions are those of a map or the tokens of a transformer; a vector has one.

    >>> RectifiedDirection("features.3", [1, 0.5])
    rectified_direction(features.3, [1, 0.5])
    """

    def __init__(self, layer: str, vector: Vector) -> None:
        super().__init__([layer])
        self.vector = nn.Buffer(numbers("rectified_direction: vector", vector))

    def forward(self, activations: Activations) -> Tensor:
        a = by_position(activations, self.layers[0])
        check_width("rectified_direction: vector", self.layers[0], len(self.vector), a.shape[1])
        return torch.einsum("mcp,c->m", a.relu(), self.vector) / a.shape[2]
