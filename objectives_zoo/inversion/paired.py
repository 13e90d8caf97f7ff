"""An objective that compares activations with those of a picture: abstract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from featureviz import Activations, Objective, check_pictures


class PairedObjective(Objective):
    """A score of a layer's activations beside those of a picture that is seen through the same draws.

    Args:
        layer: the layer that is compared.
        picture: a path, or whatever ``fv.render`` takes for a picture; ``[N,C,H,W]`` are one for each image. A spec
            holds a path, and of anything else a hash, which does not read back.

    It costs a forward of the picture in each step. If image and picture had draws of their own, the objective would
    also ask for what the draws change: positions in the picture would blur.
    """

    options: Mapping[str, Any] = MappingProxyType({})  # what a class takes besides, by keyword

    def __init__(self, layer: str, picture: Any) -> None:
        pictures = check_pictures(picture)
        super().__init__([layer], n=len(pictures))
        self.pictures = nn.Buffer(pictures)

    def pair(self, activations: Activations) -> tuple[Tensor, Tensor]:
        """``[M,L]`` twice: all entries of the layer, for the image and for the picture."""
        layer, target = self.layers[0], activations.paired(self.pictures)
        return activations.views_first(layer).flatten(1), target.views_first(layer).flatten(1)

    def pair_by_channel(self, activations: Activations) -> tuple[Tensor, Tensor]:
        """``[M,C,P]`` twice: channels by position, of which a vector has one."""
        layer, target = self.layers[0], activations.paired(self.pictures)
        both = (activations.channels_first(layer), target.channels_first(layer))
        a, t = (x.flatten(2) if x.ndim > 2 else x[:, :, None] for x in both)
        return a, t

    def select(self, images: Sequence[int]) -> Objective:
        if self.n == 1:
            return self
        make: Any = type(self)
        return make(self.layers[0], self.pictures[list(images)], **self.options)
