"""Pictures from numbers: heat maps, overlays, and sheets of labelled panels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from featureviz.errors import InvalidInput, unknown
from featureviz.files import write_bytes
from featureviz.rendering.png import encode_png, to_pixels

if TYPE_CHECKING:
    from kornia.color import ColorMap
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

DIVERGING = "diverging"
# Blue, white for zero, red: the eleven classes of ColorBrewer's RdBu (Harrower and Brewer 2003), reversed.
_BLUE_TO_RED = (
    "053061",
    "2166ac",
    "4393c3",
    "92c5de",
    "d1e5f0",
    "f7f7f7",
    "fddbc7",
    "f4a582",
    "d6604d",
    "b2182b",
    "67001f",
)
_SIGNED = (DIVERGING, "seismic")
_INK, _GREY, _FONT, _MARGIN = (30, 30, 30), (120, 120, 120), 14, 12


@final
@dataclass(frozen=True)
class Bar:
    """A colour bar: which colours stand for ``low`` to ``high``, and of what."""

    title: str
    low: float
    high: float
    name: str = "viridis"


def heat(values: Tensor, low: float | None = None, high: float | None = None, name: str = "viridis") -> Tensor:
    """Maps as colours: ``[H,W]`` to ``[3,H,W]``, ``[N,H,W]`` to ``[N,3,H,W]``, in [0,1], on the CPU.

    ``low`` gets the first colour and ``high`` the last, what lies beyond them too. Left out they are the least and
    the greatest of all values given; in a colour map for signed numbers (``"diverging"``, ``"seismic"``) they are
    ``-m`` and ``m``, m the greatest magnitude, so that zero is white. ``name`` is one of kornia's colour maps.

    Raises:
        InvalidInput: another shape, a value that is not finite, or ``low > high``.
        UnknownName: no such colour map.

    >>> heat(torch.tensor([[-2.0, 0.0, 1.0]]), name="diverging")[:, 0, 1]  # zero
    tensor([0.9686, 0.9686, 0.9686])
    """
    if values.ndim not in (2, 3) or not values.numel():
        raise InvalidInput(f"a map of shape {list(values.shape)} was given; expected [H,W] or [N,H,W], not empty")
    values = values.detach().float().cpu()
    low, high = limits(values, low, high, name=name)
    middle = 0.5 if name in _SIGNED else 0.0
    share = ((values - low) / (high - low)).clamp(0, 1) if high > low else torch.full_like(values, middle)
    from kornia.color import ApplyColorMap  # a second to import, which only those who draw need

    coloured = ApplyColorMap(_colours(name))(share.view(-1, 1, *values.shape[-2:]))
    return coloured.view(*values.shape[:-2], 3, *values.shape[-2:])


def limits(
    values: Tensor, low: float | None = None, high: float | None = None, *, name: str = "viridis", share: float = 1.0
) -> tuple[float, float]:
    """The values that get the first and the last colour in ``heat``.

    ``share`` below 1 leaves out the most extreme: of 0.99, one value in a hundred lies beyond. In a colour map for
    signed numbers zeros do not count.

    >>> limits(torch.tensor([-1.0, 3.0])), limits(torch.tensor([-1.0, 3.0]), name="diverging")
    ((-1.0, 3.0), (-3.0, 3.0))
    """
    array = values.detach().float().cpu().numpy()
    if not np.isfinite(array).all():
        raise InvalidInput(f"{int((~np.isfinite(array)).sum())} of {array.size} values to draw are NaN or infinite")
    if name in _SIGNED:
        given = [abs(v) for v in (low, high) if v is not None]
        sizes = np.abs(array[array != 0])  # a sparse matrix is mostly zeros, which need no colour
        reach = max(given) if given else float(np.quantile(sizes, share)) if sizes.size else 0.0
        low, high = -reach if low is None else low, reach if high is None else high
    low = float(np.quantile(array, (1 - share) / 2)) if low is None else low
    high = float(np.quantile(array, (1 + share) / 2)) if high is None else high
    if low > high:
        raise InvalidInput(f"low={low:.4g} and high={high:.4g} were given; expected low <= high")
    return low, high


def overlay(image: Tensor, values: Tensor, alpha: float = 0.5, name: str = "turbo") -> Tensor:
    """``(1 - alpha) * image + alpha * heat(values)``; ``[3,H,W]`` in [0,1] and a map ``[h,w]`` of any size.

    The map is enlarged bilinearly, before it gets its colours.

    >>> overlay(torch.zeros(3, 8, 8), torch.rand(2, 2), alpha=0.0).max()
    tensor(0.)
    """
    if not 0 <= alpha <= 1:
        raise InvalidInput(f"alpha={alpha} was given; expected 0 (only the image) to 1 (only the map)")
    if image.ndim != 3 or image.shape[0] != 3 or values.ndim != 2:
        raise InvalidInput(
            f"an image of shape {list(image.shape)} and a map of shape {list(values.shape)} were given; expected"
            " [3,H,W] and [h,w]"
        )
    wide = interpolate(values.detach().float().cpu()[None, None], image.shape[1:], mode="bilinear", antialias=True)
    return torch.lerp(image.detach().float().cpu(), heat(wide[0, 0], name=name), alpha)


def enlarged(picture: Tensor, smallest: int) -> Tensor:
    """``[...,H,W]`` with each pixel repeated a whole number of times, until the longer side has ``smallest`` pixels.

    >>> enlarged(torch.rand(3, 7, 5), 20).shape
    torch.Size([3, 21, 15])
    """
    factor = max(1, -(-smallest // max(picture.shape[-2:])))
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def beside(pictures: Sequence[Tensor], gap: int = 3) -> Tensor:
    """Pictures ``[3,H,w]`` of one height in a row on white, as one."""
    white = torch.ones(3, pictures[0].shape[1], gap)
    return torch.cat([part for picture in pictures for part in (white, picture)][1:], 2)


def below(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``[3,h,w]`` under each other, at the left, as one; what is narrower gets white at its right."""
    width = max(picture.shape[2] for picture in pictures)
    return torch.cat([pad(picture, (0, width - picture.shape[2]), value=1.0) for picture in pictures], 1)


def labelled(
    panels: Sequence[tuple[str, Tensor]],
    columns: int | None = None,
    *,
    title: str = "",
    bars: Sequence[Bar] = (),
    gap: int = 14,
    smallest: int = 0,
    left: bool = False,
) -> Tensor:
    """A sheet ``[3,H,W]`` on white: panels ``(title, [3,h,w] in [0,1])`` in rows, under them the colour bars.

    ``title`` stands above all, a panel's title above it, or at its left. ``gap`` pixels lie between panels; those
    smaller than ``smallest`` pixels are enlarged by ``enlarged``. Without ``columns`` the sheet is nearly square.

    >>> labelled([("a", torch.rand(3, 40, 60)), ("b", torch.rand(3, 40, 60))], 2, gap=10).shape
    torch.Size([3, 82, 154])
    """
    from PIL import Image, ImageDraw, ImageFont

    if not panels:
        raise InvalidInput("no panels were given; expected at least one (title, picture)")
    font = ImageFont.load_default(_FONT)
    pictures = [enlarged(picture.detach().float().cpu(), smallest) for _, picture in panels]
    lengths = [int(font.getlength(text) + 0.99) for text, _ in panels]
    dx, dy = (max(lengths) + 6, 0) if left else (0, _FONT + 4 if any(lengths) else 0)
    sizes = [(max(n, dx + p.shape[2]), dy + p.shape[1]) for n, p in zip(lengths, pictures, strict=True)]
    places, width, height = _places(sizes, columns or round(len(panels) ** 0.5 + 0.49), gap)
    head, foot = _MARGIN + (_FONT + 8 if title else 0), _MARGIN + (4 * _FONT + 4 if bars else 0)
    width = max(width, int(font.getlength(title) + 0.99), len(bars) * 200)
    canvas = Image.new("RGB", (width + 2 * _MARGIN, head + height + foot), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), title, _INK, font)
    for (text, _), picture, (x, y) in zip(panels, pictures, places, strict=True):
        x, y = x + _MARGIN, y + head
        if left:
            draw.text((x + dx - 6, y + picture.shape[1] / 2), text, _GREY, font, anchor="rm")
        else:
            draw.text((x, y), text, _INK, font)
        canvas.paste(Image.fromarray(to_pixels(picture)), (x + dx, y + dy))
    for i, bar in enumerate(bars):
        length = width // len(bars)
        place = (_MARGIN + dx + i * length, head + height + _FONT)
        _draw_bar(canvas, bar, place, min(260, length - 2 * _MARGIN), font)
    return torch.from_numpy(np.asarray(canvas).copy()).movedim(-1, 0).float() / 255


def save_picture(picture: Tensor, path: str | os.PathLike[str]) -> Path:
    """``[3,H,W]`` in [0,1] as a PNG, the whole file or none."""
    place = Path(path)
    write_bytes(place, encode_png(picture))
    return place


def _colours(name: str) -> ColorMap:
    from kornia.color import ColorMap, ColorMapType

    if name not in (names := [DIVERGING, *ColorMapType.list()]):
        raise unknown("colour map", name, names)
    rgb = [[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in _BLUE_TO_RED]
    return ColorMap(rgb if name == DIVERGING else name, num_colors=255, dtype=torch.float32)  # odd: one is the middle


def _places(sizes: Sequence[tuple[int, int]], columns: int, gap: int) -> tuple[list[tuple[int, int]], int, int]:
    """Where panels (width, height) begin, and the width and height of all; columns are as wide as their widest."""
    columns = min(columns, len(sizes))
    widths = [max(w for w, _ in sizes[i::columns]) for i in range(columns)]
    heights = [max(h for _, h in sizes[i : i + columns]) for i in range(0, len(sizes), columns)]
    lefts = [sum(widths[:i]) + gap * i for i in range(columns + 1)]
    tops = [sum(heights[:i]) + gap * i for i in range(len(heights) + 1)]
    return [(lefts[i % columns], tops[i // columns]) for i in range(len(sizes))], lefts[-1] - gap, tops[-1] - gap


def _draw_bar(canvas: Image, bar: Bar, place: tuple[int, int], length: int, font: FreeTypeFont | ImageFont) -> None:
    from PIL import Image, ImageDraw

    x, y = place
    draw = ImageDraw.Draw(canvas)
    draw.text((x, y), bar.title, _INK, font)
    strip = heat(torch.linspace(-1, 1, length).expand(_FONT - 4, -1), name=bar.name)
    canvas.paste(Image.fromarray(to_pixels(strip)), (x, y + _FONT + 5))
    draw.text((x, y + 2 * _FONT + 4), f"{bar.low + 0.0:.3g}", _GREY, font)
    draw.text((x + length, y + 2 * _FONT + 4), f"{bar.high:.3g}", _GREY, font, anchor="ra")
