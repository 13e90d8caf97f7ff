"""A picture with more of what a layer sees in it."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from featureviz import Activations, checks, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('caricature(features.3, "photo.png")')
@final
class Caricature(PairedObjective):
    """What a layer sees in a picture, exaggerated.

    ``(a.t) / |t|^2 * max(0.1, cos(a, t))^power`` over all channels and positions, where t is the picture's through the
    same draws. The picture itself has 1, a caricature has more.

    Source: Olah, ``dot_compare`` of Lucid's caricatures, which has no |t|^2 and no floor. Weight 1: it is a main term.
    Power 1: the plain dot product, power 0, also grows with what the picture does not have; more than 2 is a feature
    inversion. It costs a forward of the picture in each step.

    On maps and tokens positions are kept, so the layout is too; a vector has none, and the layout is free.

    >>> import torch
    >>> Caricature("features.3", torch.zeros(3, 4, 4), power=2).power
    2.0
    """

    def __init__(self, layer: str, picture: Any, power: float = 1.0) -> None:
        super().__init__(layer, picture)
        self.power = checks.finite("caricature: power", power, 0)
        self.options = {"power": self.power}

    def forward(self, activations: Activations) -> Tensor:
        a, t = self.pair(activations)
        dot, square = (a * t).sum(1), t.square().sum(1).clamp(min=1e-12)
        cosine = dot / (a.norm(dim=1).clamp(min=1e-6) * square.sqrt())
        return dot / square * cosine.clamp(min=0.1) ** self.power
