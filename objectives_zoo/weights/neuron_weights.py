"""Many channels of a layer at one position, each with a weight."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from featureviz import Activations, Objective, zoo
from objectives_zoo.shapes import Vector, at_place, check_width, numbers, place


@zoo.entry(
    f"neuron_weights(features.3, {[1, -1] + [0] * 22})", beside=f"channel_weights(features.3, {[1, -1] + [0] * 22})"
)
@final
class NeuronWeights(Objective):
    """The weighted mean of the channels at one position of a map.

    ``mean_c w_c a_c`` at row y, column x, by default at the centre (H//2, W//2).

    Source: Lucent's ``neuron_weight``, captum's ``ActivationWeights``. Weight 1: it is a main term.

    It needs rows and columns, as maps have and tokens do not; a vector is one position as a whole.

    >>> NeuronWeights("features.3", [1, 0.5], 3, 4)
    neuron_weights(features.3, [1, 0.5], 3, 4)
    """

    def __init__(self, layer: str, weights: Vector, y: int | None = None, x: int | None = None) -> None:
        super().__init__([layer])
        self.place = place("neuron_weights", y, x)
        self.weights = nn.Buffer(numbers("neuron_weights: weights", weights))

    def forward(self, activations: Activations) -> Tensor:
        a = at_place(activations, self.layers[0], *self.place)
        check_width("neuron_weights: weights", self.layers[0], len(self.weights), a.shape[1])
        return a @ self.weights / a.shape[1]
