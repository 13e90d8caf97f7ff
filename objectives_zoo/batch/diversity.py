"""Several images for one unit that differ from each other."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, Objective, zoo
from objectives_zoo.shapes import by_position


@zoo.entry("features.6:[3, 3, 3, 3] + diversity(features.6)", beside="features.6:[3, 3, 3, 3]")
@final
class Diversity(Objective):
    """How different an image is from the others of its batch, by the styles of their activations.

    ``-sum_{j != i} <G_i, G_j>`` for image i, with ``G_i = a_i a_i^T`` over positions ``[C,C]``, scaled to length 1.
    View k of an image is compared with view k of the others. Every score depends on the whole batch.

    Source: Olah et al. 2017, Lucid's ``diversity``. Weight 100 beside the mean of a channel: Lucid's own, and the
    gradient is Lucid's too; 1 for the embedded network, whose channels are smaller. Less gives images that are alike,
    more gives images that leave the unit.

    On tokens positions are summed over likewise, so their order does not matter. A vector has one position: then G
    compares directions of vectors.

    >>> from featureviz import Channel
    >>> Channel("features.6", [3, 3, 3, 3]) + 100 * Diversity("features.6")
    features.6:[3, 3, 3, 3] + 100*diversity(features.6)
    """

    def __init__(self, layer: str) -> None:
        super().__init__([layer], across_batch=True)

    def forward(self, activations: Activations) -> Tensor:
        a = by_position(activations, self.layers[0])  # [M,C,P]
        gram = (a @ a.mT).flatten(1)
        gram = gram / gram.square().sum(1, keepdim=True).clamp(min=1e-10).sqrt()
        each = gram.unflatten(0, (-1, activations.rows.views)).transpose(0, 1)  # [K,N,C*C]
        others = (each @ (each.sum(1, keepdim=True) - each).mT).diagonal(dim1=1, dim2=2)  # [K,N]
        return -others.transpose(0, 1).flatten()
