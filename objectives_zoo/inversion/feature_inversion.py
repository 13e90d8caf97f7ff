"""The image that a layer takes for a picture."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import Activations, zoo
from objectives_zoo.inversion.paired import PairedObjective


@zoo.entry('feature_inversion(features.3, "photo.png")')
@final
class FeatureInversion(PairedObjective):
    """How close the activations of a layer are to those of a picture.

    ``-|a - t|^2 / |t|^2`` over all channels and positions, where t is the picture's through the same draws. 0 is the
    picture itself, -1 is as far as no activation at all.

    Source: Mahendran & Vedaldi 2015. Weight 1: it is a main term. What the image lacks of the picture is what the layer
    does not know of it. It costs a forward of the picture in each step.

    On maps and tokens positions are kept, so the layout is too; a vector has none, and the layout is free.

    >>> import torch
    >>> FeatureInversion("features.3", torch.zeros(3, 4, 4)).n
    1
    """

    def forward(self, activations: Activations) -> Tensor:
        a, t = self.pair(activations)
        return -(a - t).square().sum(1) / t.square().sum(1).clamp(min=1e-12)
