"""Pure functions of geometry, all with one convention.

Points are (x, y) in [-1, 1]; -1 and 1 are the outer edges of the image (``align_corners=False``). A matrix ``[M,3,3]``
maps a point of the output to the point of the input that it shows. A positive angle turns the image anticlockwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEAREST = 1e-3  # depth of a perspective: what is nearer, or behind the eye, is not seen
FAR = 1e9  # entries of a matrix: with those that are larger or not finite grid_sample reads outside of the image


def translation(dx: Tensor, dy: Tensor) -> Tensor:
    """Show at (x, y) what is at (x + dx, y + dy): ``[M]``, ``[M]`` to ``[M,3,3]``."""
    zero, one = torch.zeros_like(dx), torch.ones_like(dx)
    return _stack_rows((one, zero, dx), (zero, one, dy), (zero, zero, one))


def scaling(sx: Tensor, sy: Tensor) -> Tensor:
    """Magnify the image by (sx, sy) about its centre; a negative factor mirrors: ``[M]``, ``[M]`` to ``[M,3,3]``."""
    zero, one = torch.zeros_like(sx), torch.ones_like(sx)
    return _stack_rows((1 / sx, zero, zero), (zero, 1 / sy, zero), (zero, zero, one))


def rotation(degrees: Tensor, size: tuple[int, int]) -> Tensor:
    """Rotate an image of (height, width) pixels about its centre, without shear: ``[M]`` to ``[M,3,3]``."""
    height, width = size
    radians = torch.deg2rad(degrees)
    cos, sin = torch.cos(radians), torch.sin(radians)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return _stack_rows((cos, -sin * (height / width), zero), (sin * (width / height), cos, zero), (zero, zero, one))


def perspective(corners: Tensor) -> Tensor:
    """Show the quadrilateral ``corners`` in the whole image: ``[M,4,2]`` to ``[M,3,3]`` (Heckbert 1989).

    The corners (x, y) are those that appear at (-1, -1), (1, -1), (1, 1) and (-1, 1).
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (corner.unbind(-1) for corner in corners.unbind(1))
    ax, bx, ex = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    ay, by, ey = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = ax * by - bx * ay
    g, h = (ex * by - bx * ey) / area, (ax * ey - ex * ay) / area
    square = _stack_rows(
        (x1 - x0 + g * x1, x3 - x0 + h * x3, x0), (y1 - y0 + g * y1, y3 - y0 + h * y3, y0), (g, h, torch.ones_like(g))
    )  # from the unit square
    one = torch.ones_like(g)
    return square @ scaling(2 * one, 2 * one) @ translation(one, one)  # of (x + 1) / 2


def warp(images: Tensor, matrix: Tensor, size: tuple[int, int], *, affine: bool = True) -> Tensor:
    """Resample ``[M,C,H,W]`` with the matrices ``[M,3,3]`` to ``[M,C,h,w]``: bilinear, mirrored beyond the edges.

    A grey or black border would enter the global pooling that gates read. A view whose matrix is not finite is NaN.
    """
    near = bounded(matrix.to(images.dtype))
    views = F.grid_sample(
        images, make_grid(near, size, affine=affine), mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return mark_broken(views, matrix, near)


def bounded(matrix: Tensor) -> Tensor:
    """The matrices with entries that ``grid_sample`` can take; see ``mark_broken``."""
    return matrix.nan_to_num(0.0, 0.0, 0.0).clamp(-FAR, FAR)


def mark_broken(views: Tensor, matrix: Tensor, near: Tensor) -> Tensor:
    """NaN in the views whose matrix was changed by ``bounded``, in place."""
    broken = (near != matrix.to(near.dtype)).flatten(1).any(1)
    return views.add_(torch.zeros_like(near[:, 0, 0]).masked_fill(broken, torch.nan)[:, None, None, None])


def make_grid(matrix: Tensor, size: tuple[int, int], *, affine: bool = True) -> Tensor:
    """``[M,h,w,2]``: the input point of each output pixel's centre. As ``F.affine_grid``, ten times faster on a CPU.

    Each coordinate is the sum of a term that depends on x alone and a term that depends on y alone.
    """
    x, y = (_pixel_centres(n, matrix) for n in (size[1], size[0]))
    along_x = matrix[:, :2, 0, None] * x  # [M,2,w]
    along_y = matrix[:, :2, 1, None] * y + matrix[:, :2, 2, None]  # [M,2,h]
    grid = (along_x[:, :, None, :] + along_y[:, :, :, None]).movedim(1, -1)
    if affine:
        return grid
    depth = matrix[:, 2, 0, None, None] * x + (matrix[:, 2, 1, None] * y + matrix[:, 2, 2, None])[:, :, None]
    return grid / depth.clamp(min=NEAREST)[..., None]


def _pixel_centres(count: int, like: Tensor) -> Tensor:
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1


def _stack_rows(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
