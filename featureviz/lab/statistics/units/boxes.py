"""Where in a picture a unit is strongest: a position of its map as a box in shares of the picture.

A box is ``[y0, x0, y1, x1]`` from 0 to 1, and (0, 0) is the top left corner. Its side is that of four cells of the
layer's grid, and at least a quarter of the picture. The region that a unit sees has no sharp edge: its influence falls
off like a Gaussian, and is far smaller than the theoretical receptive field (Luo et al. 2016). In two MobileNetV3 four
cells around a position hold nine tenths of its squared gradient with respect to the picture in most layers, and half of
it in all, the dilated ones too. A quarter of the picture is enough for a person to see what it shows. A box at the
border is moved inside, so all boxes of a layer are equally large.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from featureviz.network.axes import Axes

CELLS, LEAST = 4.0, 0.25
WHOLE = (0.0, 0.0, 1.0, 1.0)


class Grid(NamedTuple):
    """A layer's positions: ``prefix`` ones that lie nowhere in the picture, then rows of columns."""

    prefix: int
    rows: int
    columns: int


def find_grid(axes: Axes, positions: tuple[int, ...]) -> Grid:
    """The grid of a layer with these axes and sizes of its position axes; all are prefix if none is known."""
    count, tokens = prod(positions), axes.tokens
    if tokens is not None and tokens.prefix + prod(tokens.grid) == count:
        return Grid(tokens.prefix, *tokens.grid)
    if axes.windows == 1 and len(positions) == 2:
        return Grid(0, *positions)
    return Grid(count, 1, 1)


def find_places(maps: Tensor, *, largest: bool) -> Tensor:
    """The position of the largest or smallest number of each map ``[E,P]``; -1 where several positions share it.

    A rectified map is zero at many positions, and the first of them would be no better than any other.
    """
    ends, places = maps.max(1) if largest else maps.min(1)
    return torch.where((maps == ends[:, None]).sum(1) > 1, -1, places)


def make_boxes(places: Tensor, grids: Tensor) -> Tensor:
    """The boxes ``[E,4]`` around positions ``[E]`` of grids ``[3,E]``; the whole picture for -1 and the prefix."""
    prefix, rows, columns = grids
    inside, cells = places - prefix, torch.stack([rows, columns], 1).float()
    side = (CELLS / cells).clamp(LEAST, 1)
    centre = torch.stack([inside // columns, inside % columns], 1).float() + 0.5
    start = (centre / cells - side / 2).clamp(min=0).minimum(1 - side)
    whole = torch.tensor(WHOLE, dtype=torch.float32, device="cpu")
    return torch.where(inside[:, None] < 0, whole, torch.cat([start, start + side], 1))
