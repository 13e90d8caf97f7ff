"""Coarse to fine: the first steps on a small image and small views of it, the picture growing as they do.

As octaves do in DeepDream (Mordvintsev, Olah & Tyka 2015) and multi-scale optimisation elsewhere; here the image is a
spectrum, so growing adds its fine frequencies and changes nothing that is there, and the optimizer remembers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from featureviz.ascent import Ascent
from featureviz.image import FourierImage
from featureviz.image.base import Size, height_width
from featureviz.image.fourier import padded


def shrunk(size: Size, share: float) -> tuple[int, int]:
    """``share`` of both sides, at least 8 pixels.

    >>> shrunk(128, 0.5), shrunk((97, 12), 0.5)
    ((64, 64), (48, 8))
    """
    height, width = height_width(size)
    return max(min(8, height), round(share * height)), max(min(8, width), round(share * width))


def grow(ascent: Ascent, size: Size | None, share: float = 1.0) -> None:
    """Go on with the same picture, on ``size`` pixels if given, seen by the network at ``share`` of the side it wants.

    Adam's averages of what was there are kept, in the units of the grown leaf; those of the new frequencies start at
    zero. An image that is as large already, or no :class:`~featureviz.image.FourierImage`, keeps its size, and only
    its views change.
    """
    image = ascent.image
    if isinstance(image, FourierImage) and size is not None and _grows(image, size):
        old, before = image.size, image.spectrum
        factor = image.grow(size)
        ascent.adopt([image.spectrum if leaf is before else leaf for leaf in ascent.leaves])
        state = ascent.optimizer.state.pop(before, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == before.shape:
                power = 2 if name.endswith("_sq") else 1
                state[name] = padded(value, old, image.size) / factor**power
        if state:
            ascent.optimizer.state[image.spectrum] = state
    ascent.aim(share)


def decoded(ascent: Ascent, size: Size | None) -> Tensor:
    """``[N,C,H,W]`` in (0,1) on the CPU: the images on ``size`` pixels, if given, whatever they are climbed on."""
    image = ascent.image
    if not isinstance(image, FourierImage) or size is None or not _grows(image, size):
        return ascent.images()
    twin = copy.deepcopy(image)
    twin.grow(size)
    with torch.no_grad():
        return twin().cpu()


def _grows(image: FourierImage, size: Size) -> bool:
    return any(new > old for new, old in zip(height_width(size), image.size, strict=True))
