"""The style of a picture: how much of each channel there is."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('mean_style(features.0, "photo.png") + mean_style(features.3, "photo.png")')
@final
class MeanStyle(PairedObjective):
    """How close the means of a layer's channels are to those of a picture.

    ``-|mean_p a - mean_p t|_1 / |mean_p t|_1`` over positions p, where t is the picture's through the same draws. 0 is
    the same means, -1 is as far as no activation at all.

    Source: the mean style of Lucid's ``StyleLoss``. Weight 1 alone, with a layer of colours and one of patterns; it
    asks for less than a Gram matrix does: which features, but not which together. It costs a forward of the picture
    in each step.

    Positions are those of a map or the tokens of a transformer; on a vector it compares the vectors.
    """

    def forward(self, activations: Activations) -> Tensor:
        a, t = (x.mean(2) for x in self.pair_by_channel(activations))
        return -(a - t).abs().sum(1) / t.abs().sum(1).clamp(min=1e-12)
