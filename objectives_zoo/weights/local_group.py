"""Weighted channels in a rectangle of a map."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz import Activations, InvalidInput, Objective, checks, zoo
from objectives_zoo.shapes import Vector, check_width, numbers


@zoo.entry(
    f"local_group(features.3, {[1, -1] + [0] * 22}, y=4, x=4, height=8, width=8)",
    beside=f"channel_weights(features.3, {[1, -1] + [0] * 22})",
)
@final
class LocalGroup(Objective):
    """The weighted mean of all channels over a rectangle of a map.

    ``mean_{c,y,x} w_c a_cyx`` over ``height`` rows from y and ``width`` columns from x.

    Source: Lucent's ``localgroup_weight``; captum's ``ActivationWeights`` calls the rectangle a spot. Weight 1: it is a
    main term. The picture is empty where the receptive fields of the rectangle do not reach.

    It needs rows and columns, which tokens and vectors do not have.

    >>> LocalGroup("features.3", [1, 0.5], 2, 3)
    local_group(features.3, [1, 0.5], 2, 3, 1, 1)
    """

    def __init__(self, layer: str, weights: Vector, y: int = 0, x: int = 0, height: int = 1, width: int = 1) -> None:
        super().__init__([layer])
        self.corner = checks.whole("local_group: y", y), checks.whole("local_group: x", x)
        self.extent = checks.whole("local_group: height", height, 1), checks.whole("local_group: width", width, 1)
        self.weights = nn.Buffer(numbers("local_group: weights", weights))

    def forward(self, activations: Activations) -> Tensor:
        a, layer = activations.channels_first(self.layers[0]), self.layers[0]
        (y, x), (height, width) = self.corner, self.extent
        if a.ndim != 4 or y + height > a.shape[2] or x + width > a.shape[3]:
            raise InvalidInput(
                f"local_group: rows {y} to {y + height}, columns {x} to {x + width} are not inside of {layer!r}, which"
                f" gives {list(a.shape)}; expected [M,C,H,W]"
            )
        check_width("local_group: weights", layer, len(self.weights), a.shape[1])
        spot = a[:, :, y : y + height, x : x + width].mean((2, 3))
        return torch.einsum("mc,c->m", spot, self.weights) / a.shape[1]
