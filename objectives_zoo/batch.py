"""Objectives that compare the images of a batch; all others treat each image as if it were alone."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, Objective, PerImage


@final
class Diversity(Objective):
    """How different an image is from the others: minus the mean cosine of their Gram matrices at ``layer``.

    ``G_i = a_i a_i^T`` over positions, normalised to length 1; the score of image i is ``-mean_{j != i} <G_i, G_j>``
    (Olah et al. 2017, Lucid's ``diversity``). View k of an image is compared with view k of the others.

    >>> from featureviz import Channel
    >>> Channel("features.6", [3, 3, 3, 3]) + 2 * Diversity("features.6")
    features.6:[3, 3, 3, 3] + 2*Diversity(features.6)
    """

    def __init__(self, layer: str) -> None:
        super().__init__([layer], across_batch=True)

    def forward(self, activations: Activations) -> Tensor:
        a = activations.channels_first(self.layers[0]).flatten(2)  # [M,C,P]
        gram = (a @ a.mT).flatten(1)
        gram = gram / gram.norm(dim=1, keepdim=True).clamp(min=1e-10)
        views = activations.rows.views
        each = gram.unflatten(0, (-1, views)).transpose(0, 1)  # [K,N,C*C]
        similarity = (each @ each.mT).sum(2) - 1.0  # [K,N], without the image itself
        return -(similarity / max(1, each.shape[1] - 1)).transpose(0, 1).flatten()


@final
class Alignment(Objective):
    """How similar neighbours in a series are: ``-mean (a_i - a_j)^2`` over the neighbours j of image i at ``layer``.

    For interpolations (Lucid's ``alignment``, with nearest neighbours only).

    >>> Alignment("features.3")
    Alignment(features.3)
    """

    def __init__(self, layer: str) -> None:
        super().__init__([layer], across_batch=True)

    def forward(self, activations: Activations) -> Tensor:
        a = activations.views_first(self.layers[0]).flatten(1).unflatten(0, (-1, activations.rows.views))  # [N,K,P]
        steps = a.diff(dim=0).square().mean(2)  # [N-1,K]
        score = a.new_zeros(a.shape[:2])
        score[1:] -= steps
        score[:-1] -= steps
        return score.flatten()


def interpolation(first: Objective, second: Objective, n: int) -> Objective:
    """A series of n images from ``first`` to ``second``: image i maximises ``(1 - t) first + t second``, t from 0 to 1.

    >>> from featureviz import Channel
    >>> interpolation(Channel("features.6", 1), Channel("features.6", 2), 3)
    [features.6:1, 0.5*features.6:1 + 0.5*features.6:2, features.6:2]
    """
    mixes = [i / max(1, n - 1) for i in range(n)]
    return PerImage([first if t == 0 else second if t == 1 else (1 - t) * first + t * second for t in mixes])
