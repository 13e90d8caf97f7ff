"""The style of a picture: which channels occur together."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('gram_style(features.0, "photo.png") + gram_style(features.3, "photo.png")')
@final
class GramStyle(PairedObjective):
    """How close the Gram matrix of a layer is to that of a picture.

    ``-|G(a) - G(t)|_1 / |G(t)|_1`` with ``G(a) = a a^T / P`` over P positions, where t is the picture's through the
    same draws. 0 is the same style, -1 is as far as no activation at all.

    Source: Gatys et al. 2016, in Lucid's L1 form. Weight 1 alone, with a layer of colours and one of patterns;
    about 5 beside a channel of this network. Lucid keeps running averages because its views are small crops; here a
    view shows the picture through the same draws as the image, so both see the same part. It costs a forward of the
    picture in each step.

    Positions of a map or the tokens of a transformer are summed over, so where things are does not matter. A vector has
    one position; then it compares products of channels.
    """

    def forward(self, activations: Activations) -> Tensor:
        a, t = (x @ x.mT / x.shape[2] for x in self.pair_by_channel(activations))
        return -(a - t).abs().sum((1, 2)) / t.abs().sum((1, 2)).clamp(min=1e-12)
