"""Many channels of a layer at once, each with a weight."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz import Activations, Objective, zoo
from objectives_zoo.shapes import Vector, by_position, check_width, numbers


@zoo.entry(f"channel_weights(features.3, {[1, -1] + [0] * 22})", beside="features.3:0")
@final
class ChannelWeights(Objective):
    """The weighted mean of all channels of a layer.

    ``mean_{c,p} w_c a_cp`` over channels c and positions p. This is ``direction`` divided by the number of channels.

    Source: Lucent's ``channel_weight``, captum's ``ActivationWeights``. Weight 1: it is a main term.

    Positions are those of a map or the tokens of a transformer; a vector has one.

    >>> ChannelWeights("features.3", [1, 0.5])
    channel_weights(features.3, [1, 0.5])
    """

    def __init__(self, layer: str, weights: Vector) -> None:
        super().__init__([layer])
        self.weights = nn.Buffer(numbers("channel_weights: weights", weights))

    def forward(self, activations: Activations) -> Tensor:
        a = by_position(activations, self.layers[0])
        check_width("channel_weights: weights", self.layers[0], len(self.weights), a.shape[1])
        return torch.einsum("mcp,c->m", a, self.weights) / a[0].numel()
