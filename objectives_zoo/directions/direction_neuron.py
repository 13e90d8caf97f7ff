"""A direction at one position."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from featureviz import Activations, Objective, checks, zoo
from objectives_zoo.directions.cosine import dot_cosine
from objectives_zoo.shapes import Vector, at_place, check_width, numbers, place


@zoo.entry(f"direction_neuron(features.3, {[1, -1] + [0] * 22})", beside=f"direction:features.3:{[1, -1] + [0] * 22}")
@final
class DirectionNeuron(Objective):
    """A direction in channel space at one position of a map.

    ``(a.v) max(0.1, cos(a, v))^power`` for the vector a of channels at row y, column x; by default at the centre.

    Source: Lucid's ``direction_neuron``. Weight 1: it is a main term. Power 0 is the plain dot product; 2 or 4 keep the
    picture close to the direction, as activation atlases do.

    It needs rows and columns, as maps have; a vector is one position as a whole. For a token use ``direction`` on it.

    >>> DirectionNeuron("features.3", [1, 0.5], y=3, x=4)
    direction_neuron(features.3, [1, 0.5], 3, 4, 0.0)
    """

    def __init__(
        self, layer: str, vector: Vector, y: int | None = None, x: int | None = None, power: float = 0.0
    ) -> None:
        super().__init__([layer])
        self.place, self.power = place("direction_neuron", y, x), checks.finite("direction_neuron: power", power, 0)
        self.vector = nn.Buffer(numbers("direction_neuron: vector", vector))

    def forward(self, activations: Activations) -> Tensor:
        a = at_place(activations, self.layers[0], *self.place)  # [M,C]
        check_width("direction_neuron: vector", self.layers[0], len(self.vector), a.shape[1])
        return dot_cosine(a, self.vector.expand_as(a), self.power)
