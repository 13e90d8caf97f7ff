"""Pure functions of geometry. One convention everywhere:

Points are (x, y) in [-1, 1], -1 and 1 the outer edges of the picture (``align_corners=False``). A matrix ``[M,3,3]``
maps a point of the output to the point of the input it is read from. Angles turn the picture anticlockwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def translation(dx: Tensor, dy: Tensor) -> Tensor:
    """Read from (x + dx, y + dy): ``[M]``, ``[M]`` to ``[M,3,3]``."""
    zero, one = torch.zeros_like(dx), torch.ones_like(dx)
    return _rows((one, zero, dx), (zero, one, dy), (zero, zero, one))


def scaling(sx: Tensor, sy: Tensor) -> Tensor:
    """Magnify the picture by (sx, sy) about its centre; negative mirrors: ``[M]``, ``[M]`` to ``[M,3,3]``."""
    zero, one = torch.zeros_like(sx), torch.ones_like(sx)
    return _rows((1 / sx, zero, zero), (zero, 1 / sy, zero), (zero, zero, one))


def rotation(degrees: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn a picture of (height, width) pixels about its centre without shearing it: ``[M]`` to ``[M,3,3]``."""
    height, width = size
    radians = torch.deg2rad(degrees)
    cos, sin = torch.cos(radians), torch.sin(radians)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return _rows((cos, -sin * (height / width), zero), (sin * (width / height), cos, zero), (zero, zero, one))


def warp(images: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """``[M,C,H,W]`` read through ``[M,3,3]`` onto ``[M,C,h,w]``: one bilinear resampling, mirrored past the edges.

    Mirroring, because grey or black fill enters global pooling, which is what a gate reads.
    """
    grid = _grid(matrix.to(images.dtype), size)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average whole blocks of pixels where ``images`` have at least twice the pixels that ``size`` can show.

    Bilinear sampling skips pixels beyond that ratio; an ascent would paint in the gaps.
    """
    (height, width), (h, w) = images.shape[-2:], size
    target = (height // max(1, height // h), width // max(1, width // w))
    return images if target == (height, width) else F.adaptive_avg_pool2d(images, target)


def _grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """``[M,h,w,2]``: where the centre of each output pixel is read. ``F.affine_grid``, at a tenth of its cost on a CPU.

    Each coordinate is a sum of a part that varies along a row and one that varies down a column.
    """
    x, y = (_centres(n, matrix) for n in (size[1], size[0]))
    across = matrix[:, :2, 0, None] * x  # [M,2,w]
    down = matrix[:, :2, 1, None] * y + matrix[:, :2, 2, None]  # [M,2,h]
    return (across[:, :, None, :] + down[:, :, :, None]).movedim(1, -1)


def _centres(count: int, like: Tensor) -> Tensor:
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1


def _rows(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
