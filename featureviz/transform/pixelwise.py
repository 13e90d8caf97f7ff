"""Transforms of each pixel alone."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz.checks import finite, whole
from featureviz.errors import InvalidInput
from featureviz.image.base import CHANNELS
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Pixelwise


@final
class Noise(Pixelwise):
    """Add normal noise of standard deviation ``sd`` to every value; the image's range is 0 to 1."""

    def __init__(self, sd: float = 0.02, channels: int = 3) -> None:
        super().__init__()
        self.sd, self.channels = finite("sd", sd, 0, 1e6), whole("channels", channels, 1, CHANNELS)

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.normal((self.channels, *size)),)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        if images.shape[1] != self.channels:
            raise InvalidInput(
                f"Noise was made for {self.channels} channels, the image has {images.shape[1]}; set channels="
            )
        return images + self.sd * draw[0].to(images.dtype)
