"""Warps: shift, scale, rotation, flip, crop and perspective, each given by its matrix; and the default pipeline."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from featureviz.checks import finite
from featureviz.rng import Rng
from featureviz.transform.base import Transform, Warp
from featureviz.transform.sampling.functional import perspective, rotation, scaling, translation

MAGNIFIED = 1e3  # the most, in either direction


@final
class Jitter(Warp):
    """Shift by up to ``pixels / 2`` image pixels in each direction of x and y (Lucid's random crop by ``pixels``)."""

    span = (1.0, 1.0)

    def __init__(self, pixels: float) -> None:
        super().__init__()
        self.pixels = finite("pixels", pixels, 0, 1e6)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        # Half of the pixels, in units of half the width, is pixels / width.
        dx = rng.uniform(-self.pixels, self.pixels) / size[1]
        dy = rng.uniform(-self.pixels, self.pixels) / size[0]
        return translation(dx, dy)


@final
class Scale(Warp):
    """Magnify about the centre by a factor uniform in [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = finite("low", low, 1 / MAGNIFIED, MAGNIFIED)
        self.high = finite("high", high, self.low, MAGNIFIED)
        self.span = (1 / self.high, 1 / self.low)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        factor = rng.uniform(self.low, self.high)
        return scaling(factor, factor)


@final
class Rotate(Warp):
    """Rotate about the centre by an angle uniform in [-degrees, degrees]."""

    span = (1.0, 1.0)

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = finite("degrees", degrees, 0, 360)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return rotation(rng.uniform(-self.degrees, self.degrees), size)


@final
class Flip(Warp):
    """Exchange left and right with probability ``p``."""

    span = (1.0, 1.0)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = finite("p", p, 0, 1)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        u = rng.uniform()
        one = torch.ones_like(u)
        return scaling(torch.where(u < self.p, -one, one), one)


@final
class Crop(Warp):
    """Show a part of the image whose side is uniform in [low, high] of the image's, at a random place inside it.

    Many small views of a large image, each with the detail that the image has there. Each view draws its own side, at
    every step, as in Fel et al. 2023 (theirs is normal: 0.25 with a standard deviation of 0.1). Their code (Xplique)
    lowers the mean side from 0.5 to 0.05 over the steps; here the range is the same, at all steps.
    """

    def __init__(self, low: float = 0.05, high: float = 0.5) -> None:
        super().__init__()
        self.low = finite("low", low, 1 / MAGNIFIED, 1)
        self.high = finite("high", high, self.low, 1)
        self.span = (self.low, self.high)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        side = rng.uniform(self.low, self.high)
        room = 1 - side
        shift = translation(room * rng.uniform(-1, 1), room * rng.uniform(-1, 1))
        return shift @ scaling(1 / side, 1 / side)


@final
class Homography(Warp):
    """Look at the image from the side: each corner moves by up to ``share`` of half the image, in x and in y."""

    projective = True

    def __init__(self, share: float = 0.2) -> None:
        super().__init__()
        self.share = finite("share", share, 0, 0.45)  # with more, corners may change places
        self.span = (1 - self.share, 1 + self.share)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        ends = rng.uniform(-self.share, self.share, (4, 2))
        x = torch.ones_like(ends[:, :1, 0])  # [M,1]
        corners = torch.stack([torch.cat([-x, x, x, -x], 1), torch.cat([-x, -x, x, x], 1)], -1)
        return perspective(corners + ends)


def robust() -> list[Transform]:
    """The default transforms with Lucid's standard ranges: jitter 8, scale 0.9 to 1.1, rotate 10 degrees, jitter 4.

    Lucid first pads with 12 px of grey. Here the image is mirrored beyond its edges, so no padding is needed.
    """
    return [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4)]
