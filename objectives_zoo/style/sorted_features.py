"""The distribution of each feature in a picture."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('sorted_features(features.0, "photo.png") + sorted_features(features.3, "photo.png")')
@final
class SortedFeatures(PairedObjective):
    """How close each channel's values, sorted, are to those of a picture, sorted.

    ``-sum_{c,p} (sort(a_c)_p - sort(t_c)_p)^2 / sum t^2`` with the values of a channel sorted over positions: the
    squared Wasserstein distance in one dimension. t is the picture's through the same draws. 0 is the same
    distribution.

    Source: VITAL, Gorgun et al. 2025, which averages the sorted values of many pictures at five layers. Weight 1 alone;
    add several layers, each as a term. It costs a forward of the picture and two sorts of the layer in each step.

    Positions of a map or the tokens of a transformer may change places. A vector has one position, so it is feature
    inversion there.
    """

    def forward(self, activations: Activations) -> Tensor:
        a, t = self.pair_by_channel(activations)
        gap = a.sort(dim=2).values - t.sort(dim=2).values
        return -gap.square().sum((1, 2)) / t.square().sum((1, 2)).clamp(min=1e-12)
