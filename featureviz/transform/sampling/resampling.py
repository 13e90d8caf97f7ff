"""Resampling in which no pixel is skipped: each view reads an image that was averaged as much as that view needs.

Bilinear sampling looks at four pixels. If a view shows the image much smaller than it is, the pixels between are
skipped, and an ascent would exploit them. So there are copies of the image at half the size, at a quarter and so on,
and each view takes the copy that suits its matrix (Williams 1983, "Pyramidal parametrics").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.transform.sampling import functional

SKIPS = 2.0  # pixels from one sample to the next: beyond it bilinear sampling leaves out pixels
NARROW = 1.5  # a span whose ends differ by less takes one copy for all views, that of its middle
ROUNDING = 1e-3  # so that a ratio of 2 is one on every device
Span = tuple[float, float]


def resample(
    images: Tensor,
    matrix: Tensor,
    size: tuple[int, int],
    span: Span = (0.0, 1.0),
    views: int = 1,
    *,
    affine: bool = True,
) -> Tensor:
    """``[N,C,H,W]`` with the matrices ``[N*views,3,3]`` to ``[N*views,C,h,w]``; image-major, mirrored at the edges.

    Args:
        images: what the views show.
        matrix: from a point of the view to a point of the image, as in ``functional``.
        size: (h, w).
        span: the least and the most that a matrix of this kind shrinks: lengths of the image in a length of the view.
            What it excludes costs nothing; a view beyond it takes the nearest copy that there is.
        views: of each image.
        affine: whether the last row of every matrix is (0, 0, 1).
    """
    images = equalise(images, size)
    ratio = max(images.shape[-2] / size[0], images.shape[-1] / size[1])
    most = int(math.log2(min(images.shape[-2:])))
    ends = [(span[0] * span[1]) ** 0.5] * 2 if span[1] < NARROW * span[0] else span
    first, last = (min(most, _halvings(ratio * end)) for end in ends)
    images = halve(images, first)
    if first == last:
        return functional.warp(images.repeat_interleave(views, 0) if views > 1 else images, matrix, size, affine=affine)
    return _resample_levels(images, matrix, (size, views), last - first, affine)


def equalise(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average whole pixels along the axis that has more of them for each pixel of ``size``, if twice as many."""
    (height, width), (h, w) = images.shape[-2:], size
    ratio = max(1.0, min(height / h, width / w))
    return average(images, (round(h * ratio), round(w * ratio)))


def average(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average whole blocks of pixels if ``images`` have at least twice the height or width of ``size``."""
    (height, width), (h, w) = images.shape[-2:], size
    target = (height // max(1, height // h), width // max(1, width // w))
    return images if target == (height, width) else F.adaptive_avg_pool2d(images, target)


def halve(images: Tensor, times: int) -> Tensor:
    """The images at half of their size, so many times."""
    height, width = images.shape[-2:]
    return F.adaptive_avg_pool2d(images, (height >> times, width >> times)) if times else images


def _halvings(ratio: float) -> int:
    """How often an image is halved before samples that are ``ratio`` pixels apart skip none."""
    return max(0, math.floor(math.log2(max(ratio, 1.0) / SKIPS) + 1 + ROUNDING))


def _resample_levels(
    images: Tensor, matrix: Tensor, shape: tuple[tuple[int, int], int], last: int, affine: bool
) -> Tensor:
    """Each view from the copy that it needs; all copies are one picture, so that this is one resampling."""
    (height, width), (size, views) = images.shape[-2:], shape
    h, w = size
    near = functional.bounded(matrix.to(images.dtype))
    level = _choose_level(near, (height, width), size).clamp(0, last)[:, None, None]  # [M,1,1]
    shrunk = torch.exp2(-level)
    top = sum(((level > j) * float(height >> j) for j in range(1, last)), torch.zeros_like(level))
    x, y = functional.make_grid(near, size, affine=affine).unbind(-1)  # [M,h,w]
    column = _place(x, torch.floor(width * shrunk), (level > 0) * float(width), width + width // 2)
    row = _place(y, torch.floor(height * shrunk), top, height)
    grid = torch.stack([column, row], -1).view(len(images), views * h, w, 2)  # image-major
    shown = F.grid_sample(_lay_out(images, last), grid, mode="bilinear", padding_mode="border", align_corners=False)
    shown = shown.view(len(images), -1, views, h, w).transpose(1, 2).reshape(len(matrix), -1, h, w)
    return functional.mark_broken(shown, matrix, near)


def _choose_level(matrix: Tensor, full: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """How often each view wants the image halved, ``[M]``."""
    pixels = matrix.new_zeros(len(matrix), 2, 2)  # of the image, for a step of one pixel in the view
    for row, sides in enumerate((full[1], full[0])):
        for column, steps in enumerate((size[1], size[0])):
            pixels[:, row, column] = matrix[:, row, column] * (sides / steps)
    distance = pixels.norm(dim=1).amax(1).clamp(min=1.0)
    return torch.floor(torch.log2(distance / SKIPS) + 1 + ROUNDING)


def _lay_out(images: Tensor, last: int) -> Tensor:
    """``[N,C,H,W + W//2]``: the images, and beside them their halved copies below each other."""
    height, width = images.shape[-2:]
    copies = [halve(images, j) for j in range(1, last + 1)]
    beside = torch.cat([F.pad(copy, (0, width // 2 - copy.shape[-1])) for copy in copies], 2)
    return torch.cat([images, F.pad(beside, (0, 0, 0, height - beside.shape[2]))], 3)


def _place(x: Tensor, side: Tensor, start: Tensor, total: int) -> Tensor:
    """Coordinates in [-1,1] of an image, mirrored at its edges, as those in a picture of ``total`` pixels.

    The image is ``side`` pixels there, from ``start`` on. No sample reads beyond them.
    """
    mirrored = 1 - (torch.remainder((x + 1) / 2, 2.0) - 1).abs()  # from 0 to 1
    pixel = (mirrored * side - 0.5).clamp(min=0.0).minimum(side - 1)
    return (2 * (pixel + start) + 1) / total - 1
