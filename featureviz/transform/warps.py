"""Warps: shift, scale, rotation and flip, each given by its matrix; and the default pipeline made of them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Transform, Warp
from featureviz.transform.functional import rotation, scaling, translation


@final
class Jitter(Warp):
    """Shift by up to ``pixels / 2`` image pixels in each direction of x and y (Lucid's random crop by ``pixels``)."""

    def __init__(self, pixels: float) -> None:
        super().__init__()
        self.pixels = float(_check_minimum(0, pixels, "pixels"))

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
        self.low, self.high = float(_check_minimum(1e-3, low, "low")), float(_check_minimum(low, high, "high"))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        factor = rng.uniform(self.low, self.high)
        return scaling(factor, factor)


@final
class Rotate(Warp):
    """Rotate about the centre by an angle uniform in [-degrees, degrees]."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = float(_check_minimum(0, degrees, "degrees"))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return rotation(rng.uniform(-self.degrees, self.degrees), size)


@final
class Flip(Warp):
    """Exchange left and right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise InvalidInput(f"Flip got p={p}; expected a probability in [0, 1]")
        self.p = float(p)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        u = rng.uniform()
        return scaling(torch.where(u < self.p, -1.0, 1.0), torch.ones_like(u))


def _check_minimum(minimum: float, value: float, name: str) -> float:
    if not value >= minimum:
        raise InvalidInput(f"{name}={value} was given; expected at least {minimum:g}")
    return value


def robust() -> list[Transform]:
    """The default transforms with Lucid's standard ranges: jitter 8, scale 0.9 to 1.1, rotate 10 degrees, jitter 4.

    Lucid first pads with 12 px of grey. Here the image is mirrored beyond its edges, so no padding is needed.
    """
    return [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4)]
