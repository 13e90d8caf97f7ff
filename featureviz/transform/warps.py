"""Geometric robustness: shift, zoom, turn, mirror. Each gives its matrix; the pipeline resamples once for all."""

from __future__ import annotations

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Transform, Warp
from featureviz.transform.functional import rotation, scaling, translation


class Jitter(Warp):
    """Shift by up to ``pixels / 2`` image pixels either way in x and y (Lucid's random crop by ``pixels``)."""

    def __init__(self, pixels: float) -> None:
        super().__init__()
        self.pixels = float(_at_least(0, pixels, "pixels"))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        # Half of the pixels either way, in units of half the picture: pixels / width.
        dx = rng.uniform(-self.pixels, self.pixels) / size[1]
        dy = rng.uniform(-self.pixels, self.pixels) / size[0]
        return translation(dx, dy)

    def extra_repr(self) -> str:
        return f"{self.pixels:g}"


class Scale(Warp):
    """Magnify by a factor uniform in [low, high] about the centre."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = float(_at_least(1e-3, low, "low")), float(_at_least(low, high, "high"))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        factor = rng.uniform(self.low, self.high)
        return scaling(factor, factor)

    def extra_repr(self) -> str:
        return f"{self.low:g}, {self.high:g}"


class Rotate(Warp):
    """Turn by an angle uniform in [-degrees, degrees] about the centre."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = float(_at_least(0, degrees, "degrees"))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return rotation(rng.uniform(-self.degrees, self.degrees), size)

    def extra_repr(self) -> str:
        return f"{self.degrees:g}"


class Flip(Warp):
    """Mirror left and right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise InvalidInput(f"Flip got p={p}; expected a probability in [0, 1]")
        self.p = float(p)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        u = rng.uniform()
        return scaling(torch.where(u < self.p, -1.0, 1.0), torch.ones_like(u))

    def extra_repr(self) -> str:
        return f"{self.p:g}"


def _at_least(minimum: float, value: float, name: str) -> float:
    if not value >= minimum:
        raise InvalidInput(f"{name}={value} was given; expected at least {minimum:g}")
    return value


def robust() -> list[Transform]:
    """The default: Lucid's standard ranges, jitter 8, scale 0.9 to 1.1, rotate 10 degrees, jitter 4.

    Lucid pads with 12 px of grey first; here nothing needs padding, since the view is mirrored past the edges.
    """
    return [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4)]
