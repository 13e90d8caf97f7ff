"""Micro-batches: what goes through the network at once, and smaller ones where memory asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from featureviz.network.activations import Rows
from featureviz.rng import Rng

PIXELS = 8 * 224 * 224  # of views that go through the network at once on a CPU: with more a view costs no less


@final
@dataclass(frozen=True)
class Microbatch:
    """Some images of a batch and some of the views of each, with their own random numbers."""

    images: slice
    views: slice
    rng: Rng
    rows: Rows

    def select(self, images: slice) -> tuple[Rng, Rows]:
        """Random numbers and rows of the images at these places of this part."""
        return self.rng.select(images, slice(0, self.rows.views)), self.rows.select(images)


def microbatches(rng: Rng, n: int, images: int, views: int, device: torch.device) -> list[Microbatch]:
    """The batch of ``n`` images in parts of at most so many images and so many views of each."""
    return [
        Microbatch(i, k, rng.select(i, k), Rows.make(range(i.start, i.stop), k.stop - k.start, device))
        for i in _slices(n, images)
        for k in _slices(rng.views, views)
    ]


def first_size(n: int, views: int, size: tuple[int, int], device: torch.device, across_batch: bool) -> tuple[int, int]:
    """How many images, and views of each, go through the network together, unless memory is full.

    On a CPU a few at a time are quickest; elsewhere, and where images depend on each other, it is all of them.
    """
    if device.type != "cpu" or across_batch:
        return n, views
    at_once = max(1, PIXELS // (size[0] * size[1]))
    return _evenly(n, max(1, at_once // views)), _evenly(views, at_once)


def halved(images: int, views: int) -> tuple[int, int] | None:
    """Half the images, or half the views of one image; None where there is nothing to halve."""
    if images > 1:
        return (images + 1) // 2, views
    return (1, (views + 1) // 2) if views > 1 else None


def _evenly(count: int, most: int) -> int:
    """The size of as few equal parts of ``count`` as there can be, none larger than ``most``."""
    return -(-count // -(-count // most))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]
