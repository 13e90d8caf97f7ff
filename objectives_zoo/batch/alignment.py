"""A series of images in which each looks like its neighbours."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, Objective, checks, zoo


@zoo.entry(
    "interpolation(features.6:3, features.6:17, 4) + 0.4*alignment(features.3)",
    beside="interpolation(features.6:3, features.6:17, 4)",
)
@final
class Alignment(Objective):
    """How similar an image of a series is to those before and after it.

    ``-sum_{d=1..distances} ratio^-d sum_{j = i +- d} mean (a_i - a_j)^2 / 2`` for image i, so that the sum over the
    series has each pair once. Every score depends on the whole batch.

    Source: Lucid's ``alignment``, with its distances 1 to 4 and ratio 2. Weight 0.1 N for a series of N images beside
    the mean of a channel: Lucid's 0.1, whose channels are a mean over the batch. Choose a layer early enough to hold
    where things are.

    It compares all entries of a layer, on maps, tokens and vectors alike.

    >>> Alignment("features.3")
    alignment(features.3, 4, 2.0)
    """

    def __init__(self, layer: str, distances: int = 4, ratio: float = 2.0) -> None:
        super().__init__([layer], across_batch=True)
        self.distances = checks.whole("alignment: distances", distances, 1)
        self.ratio = checks.finite("alignment: ratio", ratio, 1e-3)

    def forward(self, activations: Activations) -> Tensor:
        a = activations.views_first(self.layers[0]).flatten(1).unflatten(0, (-1, activations.rows.views))  # [N,K,P]
        score = a.new_zeros(a.shape[:2])
        for d in range(1, min(self.distances, len(a) - 1) + 1):
            step = (a[d:] - a[:-d]).square().mean(2) / (2 * self.ratio**d)
            score[d:] -= step
            score[:-d] -= step
        return score.flatten()
