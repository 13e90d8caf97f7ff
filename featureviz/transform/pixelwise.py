"""Transforms of each pixel alone."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz.checks import finite
from featureviz.rng import Rng, normal_of
from featureviz.transform.base import Draw, Pixelwise


@final
class Noise(Pixelwise):
    """Add normal noise of standard deviation ``sd`` to every value; the image's range is 0 to 1."""

    def __init__(self, sd: float = 0.02) -> None:
        super().__init__()
        self.sd = finite("sd", sd, 0, 1e6)

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.keys(),)  # the numbers are made where the channels are known

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        return images + self.sd * normal_of(draw[0], tuple(images.shape[1:])).to(images.dtype)
