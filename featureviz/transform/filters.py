"""Transforms that are neither warps nor of each pixel alone: shifts around the edge, blur, the length of gradients."""

from __future__ import annotations

import math
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.checks import finite
from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Transform

WIDEST = 64.0  # standard deviation of a blur, in pixels
SHORTEST = 1e-30  # a gradient that is shorter stays as it is


@final
class Roll(Transform):
    """Shift each view by whole pixels, around the edges: what leaves on the right comes back on the left.

    First in a pipeline, it shows the seam of an image to the network, so that the image becomes a tile
    (``FourierImage`` and ``MacoImage`` wrap already). Put it first: warps mirror at the edge.
    """

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return rng.uniform(), rng.uniform()

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        for axis, share in zip((2, 3), draw, strict=True):
            side = images.shape[axis]
            place = torch.arange(side, device=images.device)
            index = torch.remainder(place + (share * side).long()[:, None], side)  # [M,side]
            index = index.view(len(images), 1, -1, 1) if axis == 2 else index.view(len(images), 1, 1, -1)
            images = images.gather(axis, index.expand_as(images))
        return images


@final
class Blur(Transform):
    """Blur with a Gaussian whose standard deviation is uniform in [low, high] pixels of the view.

    An image that stays good under blur has little high frequency. The kernel reaches to three times ``high``; the edge
    is continued. Cost: two convolutions of each channel.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = finite("low", low, 0, WIDEST), finite("high", high, 0, WIDEST)
        if self.high < self.low:
            raise InvalidInput(f"Blur({low:g}, {high:g}) was given; expected low <= high")

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.uniform(self.low, self.high),)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        reach, (rows, channels, height, width) = math.ceil(3 * self.high), images.shape
        if not reach:
            return images
        steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        variance = draw[0].to(images.dtype).square().clamp(min=1e-4)[:, None]  # at 0 the kernel is one pixel
        kernel = torch.exp(-steps.square() / (2 * variance))
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # [M*C,1,2*reach+1]
        flat = images.reshape(1, rows * channels, height, width)
        flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "replicate"), kernel[:, :, None, :], groups=rows * channels)
        flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), "replicate"), kernel[:, :, :, None], groups=rows * channels)
        return flat.view(rows, channels, height, width)


@final
class NormalizeGradient(Transform):
    """Change nothing but the gradient, to length 1 for each view (Lucid's ``normalize_gradient``).

    With several views or several terms no view outweighs the others. For one view, Adam does nearly the same.
    """

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return ()

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        return _UnitGradient.apply(images)


class _UnitGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return gradient / torch.where(length > SHORTEST, length, torch.ones_like(length))
