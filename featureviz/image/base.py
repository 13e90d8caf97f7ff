"""The contract of an image parameterization, and helpers for its size, its initial noise and a starting image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.rng import INITIAL, Rng

Size = int | tuple[int, int]


class Parameterization(nn.Module, ABC):
    """N images as leaves and a differentiable decoder: abstract.

    ``forward() -> [N,C,H,W]`` float32 in (0,1), without randomness. Every leaf has one row for each image. The initial
    row i depends on the seed and on i, but not on N, so an image starts the same in every batch.
    """

    @abstractmethod
    def forward(self) -> Tensor: ...

    def __len__(self) -> int:
        return len(next(self.parameters()))


def height_width(size: Size) -> tuple[int, int]:
    """The size in pixels as (height, width).

    >>> height_width(128), height_width((97, 64))
    ((128, 128), (97, 64))
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InvalidInput(f"size {size} was given; height and width must be at least 1 pixel")
    return height, width


def draw_noise(shape: tuple[int, ...], sd: float, seed: int, image_ids: Sequence[int] | None = None) -> Tensor:
    """``[N, ...]`` normal numbers of standard deviation ``sd``.

    Row i is a hash of (seed, image_ids[i]), by default of (seed, i).
    """
    images = shape[0] if image_ids is None else torch.tensor(image_ids)
    if image_ids is not None and len(image_ids) != shape[0]:
        raise InvalidInput(f"image_ids={list(image_ids)} was given for {shape[0]} images; expected one for each image")
    return sd * Rng(seed, images, step=INITIAL).normal(shape[1:])


def check_start(image: Tensor, n: int | None, channels: int, size: Size | None) -> Tensor:
    """The starting image, checked, as ``[n,channels,H,W]`` float32; a single image is repeated n times."""
    if image.ndim == 3:
        image = image[None]
    n = n or len(image)
    if image.ndim != 4 or image.shape[1] != channels or image.shape[0] not in (1, n):
        raise InvalidInput(
            f"a starting image of shape {list(image.shape)} was given; expected [{channels},H,W], [1,{channels},H,W]"
            f" or [{n},{channels},H,W]"
        )
    if size is not None and tuple(image.shape[-2:]) != height_width(size):
        raise InvalidInput(
            f"a starting image of {image.shape[-2]}x{image.shape[-1]} was given for size {size};"
            " leave size out or resize the image"
        )
    image = image.detach().float()
    if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InvalidInput(
            f"a starting image in [{image.min():.3g}, {image.max():.3g}] was given; expected finite values in [0, 1]:"
            " divide bytes by 255"
        )
    return image.expand(n, -1, -1, -1)
