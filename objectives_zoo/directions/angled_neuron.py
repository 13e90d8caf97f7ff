"""A whitened direction at one position: what an icon of an activation atlas is rendered for."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz import Activations, Objective, checks, zoo
from objectives_zoo.shapes import Vector, at_place, check_width, numbers, place


@zoo.entry(
    f"angled_neuron(features.3, {[1, -1] + [0] * 22})", beside=f"direction_neuron(features.3, {[1, -1] + [0] * 22})"
)
@final
class AngledNeuron(Objective):
    """A whitened direction at one position of a map, by its angle more than by its length.

    ``(a.v') max(0.1, a.v' / (|a| + 1e-4))^power`` at row y, column x, by default at the centre, where v' is a direction
    that ``whitened`` has made. It is not divided by |v'|, so give v' of length about 1, or power 0.

    Source: Carter et al. 2019, Lucid's ``direction_neuron_cossim_S``, captum's ``AngledNeuronDirection``. Weight 1: it
    is a main term. Power 4 as in their notebook; their recipe takes 2.

    It needs rows and columns, as maps have and tokens do not; a vector is one position as a whole.

    >>> AngledNeuron("features.3", [1, 0.5])
    angled_neuron(features.3, [1, 0.5], None, None, 4.0)
    """

    def __init__(
        self, layer: str, vector: Vector, y: int | None = None, x: int | None = None, power: float = 4.0
    ) -> None:
        super().__init__([layer])
        self.place, self.power = place("angled_neuron", y, x), checks.finite("angled_neuron: power", power, 0)
        self.vector = nn.Buffer(numbers("angled_neuron: vector", vector))

    def forward(self, activations: Activations) -> Tensor:
        a = at_place(activations, self.layers[0], *self.place)
        check_width("angled_neuron: vector", self.layers[0], len(self.vector), a.shape[1])
        dot = a @ self.vector
        return dot * (dot / (a.norm(dim=1) + 1e-4)).clamp(min=0.1) ** self.power


def whitened(vector: Vector, samples: Tensor) -> list[float]:
    """``v' = v S / |v S|`` with ``S = inv(E[a a^T])`` over ``samples`` ``[P,C]`` of a layer's activations."""
    v, a = numbers("whitened: vector", vector), numbers("whitened: samples", samples, 2)
    check_width("whitened: vector", "samples", len(v), a.shape[1])
    moments = a.T @ a / len(a)
    moved = torch.linalg.lstsq(moments + 1e-6 * moments.diagonal().mean() * torch.eye(len(v)), v[:, None]).solution[
        :, 0
    ]
    return (moved / moved.norm()).tolist()
