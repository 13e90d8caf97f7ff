"""A whole mode of gates that open together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from featureviz import Activations, GateSite, InvalidInput, Objective, checks, zoo
from objectives_zoo.shapes import Vector, by_position, numbers


@zoo.entry("gate_mode(features.9.block.2, [3, 17, 40], [1, 1, -1])", beside="gate:features.9.block.2:3")
@final
class GateMode(Objective):
    """Gates of a block that move together, opened and closed as one.

    ``sum_i w_i z_{u_i} / |w|`` for the logits z of the block's gates, some units u and their weights w: gates with a
    positive weight open, those with a negative one close. A whole mode is ``range(C)`` and a row of
    ``fv.lab.modes(...).vectors``.

    Source: the co-gating modes of this library. Weight 1: it is a main term. Logits and not values, because a shut gate
    has no slope.

    A block has one logit for each channel and image, whatever its map is; of a spatial gate the mean over positions.

    >>> GateMode("features.9.block.2", [3, 17], [1, -1])
    gate_mode(features.9.block.2, [3, 17], [1, -1])
    """

    def __init__(self, site: GateSite | str, units: Sequence[int], weights: Vector) -> None:
        super().__init__([f"gate:{site.name if isinstance(site, GateSite) else site}"])
        w, self.units = numbers("gate_mode: weights", weights), checks.wholes("gate_mode: units", units)
        if len(w) != len(self.units) or not w.norm() > 0:
            raise InvalidInput(f"gate_mode: {len(self.units)} units got {len(w)} weights; expected one each, not all 0")
        self.weights, self.index = nn.Buffer(w / w.norm()), nn.Buffer(torch.tensor(self.units))

    def forward(self, activations: Activations) -> Tensor:
        z = by_position(activations, self.layers[0]).mean(2)  # [M,C]
        if max(self.units) >= z.shape[1]:
            raise InvalidInput(f"gate_mode: unit {max(self.units)} of {self.layers[0]!r}, which has {z.shape[1]}")
        return z.index_select(1, self.index) @ self.weights
