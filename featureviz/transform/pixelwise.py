"""Transforms of each pixel alone."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz.checks import finite, whole
from featureviz.errors import InvalidInput
from featureviz.image import color
from featureviz.image.base import CHANNELS
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


@final
class ColorJitter(Pixelwise):
    """Change colours along the axes on which those of photographs vary: ``C (gain C^-1 (x - 1/2) + shift) + 1/2``.

    C is the colour matrix (``image.color``). Each view and each axis has a gain in [1 - spread, 1 + spread]
    and a shift in [-shift, shift]; along the two axes of colour the matrix makes them small, as photographs do. It
    moves the means of channels, and with them what squeeze-and-excitation gates read.
    """

    def __init__(self, spread: float = 0.2, shift: float = 0.1, channels: int = 3) -> None:
        super().__init__()
        self.spread, self.shift = finite("spread", spread, 0, 10), finite("shift", shift, 0, 10)
        self.channels = whole("channels", channels, 1, CHANNELS)
        matrix = color.channels_matrix(True, self.channels)
        self.matrix = nn.Buffer(torch.eye(self.channels, device="cpu")) if matrix is None else matrix
        self.inverse = nn.Buffer(torch.linalg.inv(self.matrix))

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        gain = rng.uniform(1 - self.spread, 1 + self.spread, (self.channels,))
        return gain, rng.uniform(-self.shift, self.shift, (self.channels,))

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        if images.shape[1] != self.channels:
            raise InvalidInput(
                f"ColorJitter was made for {self.channels} channels, the image has {images.shape[1]}; set channels="
            )
        gain, shift = draw
        mixed = self.matrix @ (gain[:, :, None] * self.inverse)  # [M,C,C]
        moved = torch.einsum("mdc,mchw->mdhw", mixed.to(images.dtype), images - 0.5)
        return moved + (0.5 + shift @ self.matrix.mT)[:, :, None, None].to(images.dtype)
