"""A direction that differs from position to position."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from featureviz import Activations, InvalidInput, Objective, checks, zoo
from objectives_zoo.directions.cosine import dot_cosine
from objectives_zoo.shapes import check_width, numbers

ROW = [1, 1, 1, 0, 0, 0, -1, -1, -1]
RED_LEFT = [[[sign * x for x in ROW]] * 9 for sign in (1, 0, -1)]  # and blue right


@zoo.entry(f"tensor_direction(input, {RED_LEFT})")
@final
class TensorDirection(Objective):
    """A small map of directions ``[C,h,w]`` in the centre of a layer's map.

    ``mean_{yx} (a_yx . v_yx) max(0.1, cos(a_yx, v_yx))^power`` over the h x w positions in the centre.

    Source: Lucid's ``tensor_direction``, which crops the activations at the centre likewise. Weight 1: it is a main
    term. Take the map from a picture's activations to render what a patch of it is to the network.

    It needs rows and columns, which tokens and vectors do not have.

    >>> TensorDirection("input", [[[1, 0]], [[0, 0]], [[0, 1]]])
    tensor_direction(input, [[[1, 0]], [[0, 0]], [[0, 1]]], 0.0)
    """

    def __init__(self, layer: str, tensor: Any, power: float = 0.0) -> None:
        super().__init__([layer])
        self.power = checks.finite("tensor_direction: power", power, 0)
        self.target = nn.Buffer(numbers("tensor_direction: tensor [C,h,w]", tensor, 3))

    def forward(self, activations: Activations) -> Tensor:
        layer, (c, h, w) = self.layers[0], self.target.shape
        a = activations.channels_first(layer)
        if a.ndim != 4 or a.shape[2] < h or a.shape[3] < w:
            raise InvalidInput(f"tensor_direction is {h}x{w}; {layer!r} gives {list(a.shape)}, expected [M,C,H,W]")
        check_width("tensor_direction: tensor", layer, c, a.shape[1])
        top, left = (a.shape[2] - h) // 2, (a.shape[3] - w) // 2
        crop = a[:, :, top : top + h, left : left + w].movedim(1, -1)  # [M,h,w,C]
        return dot_cosine(crop, self.target.movedim(0, -1).expand_as(crop), self.power).mean((1, 2))
