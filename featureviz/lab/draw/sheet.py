"""Sheets of labelled panels with colour bars, and how pictures are enlarged and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from featureviz.checks import flag, show, whole
from featureviz.errors import InvalidInput
from featureviz.image.base import SIDE
from featureviz.lab.draw.canvas import Canvas, is_picture, measure_text
from featureviz.lab.draw.colors import colormap

COLOR_SHARE = 0.995  # the share of the values inside a colour scale that several maps use
_INK, _GREY, _FONT, _MARGIN = (30, 30, 30), (120, 120, 120), 14, 12


@final
@dataclass(frozen=True)
class ColorBar:
    """A colour bar: what is shown, the values of the first and the last colour, and the colour map."""

    title: str
    low: float
    high: float
    name: str = "viridis"


def draw_sheet(
    panels: Sequence[tuple[str, Tensor]], columns: int | None = None, *, title: str = "",
    bars: Sequence[ColorBar] = (), gap: int = 14, smallest: int = 0, left: bool = False,
) -> Tensor:  # fmt: skip
    """A sheet ``[3,H,W]`` on white: panels ``(title, [3,h,w] in [0,1])`` in rows, and colour bars below them.

    By default the sheet is nearly square. ``gap`` is the number of pixels between panels. Pictures whose longer side
    has fewer than ``smallest`` pixels are enlarged. ``left`` draws the title of each panel at its left, not above it.

    >>> draw_sheet([("a", torch.rand(3, 40, 60)), ("b", torch.rand(3, 40, 60))], 2, gap=10).shape
    torch.Size([3, 82, 154])
    """
    if not isinstance(panels, Sequence) or not panels or not all(map(_is_panel, panels)):
        given = (
            "no panels were given"
            if isinstance(panels, Sequence) and not panels
            else f"panels={show(panels)} was given"
        )
        raise InvalidInput(f"{given}; expected at least one (title, picture [3,h,w])")
    if not isinstance(title, str) or not isinstance(bars, Sequence) or not all(isinstance(b, ColorBar) for b in bars):
        raise InvalidInput(f"title={show(title)} and bars={show(bars)} were given; expected a text and colour bars")
    gap, smallest = whole("gap", gap, 0, SIDE), whole("smallest", smallest, 0, SIDE)
    left, columns = (
        flag("left", left),
        whole("columns", round(len(panels) ** 0.5 + 0.49) if columns is None else columns, 1),
    )
    pictures = [enlarge(picture.detach().float().cpu(), smallest) for _, picture in panels]
    lengths = [_text_width(text) for text, _ in panels]
    dx, dy = (max(lengths) + 6, 0) if left else (0, _FONT + 4 if any(lengths) else 0)
    sizes = [(max(n, dx + p.shape[2]), dy + p.shape[1]) for n, p in zip(lengths, pictures, strict=True)]
    places, width, height = _arrange(sizes, columns, gap)
    head, foot = _MARGIN + (_FONT + 8 if title else 0), _MARGIN + (4 * _FONT + 4 if bars else 0)
    width = max(width, _text_width(title), len(bars) * 200)
    canvas = Canvas(width + 2 * _MARGIN, head + height + foot, scale=1)
    canvas.text(_MARGIN, _MARGIN, title, _INK, _FONT)
    for (text, _), picture, (x, y) in zip(panels, pictures, places, strict=True):
        x, y = x + _MARGIN, y + head
        if left:
            canvas.text(x + dx - 6, y + picture.shape[1] / 2, text, _GREY, _FONT, "rm")
        else:
            canvas.text(x, y, text, _INK, _FONT)
        canvas.image(picture, x + dx, y + dy, picture.shape[2], picture.shape[1], shades=False)
    for i, bar in enumerate(bars):
        length = width // len(bars)
        _draw_bar(canvas, bar, _MARGIN + dx + i * length, head + height + _FONT, min(260, length - 2 * _MARGIN))
    return canvas.picture()


def _is_panel(panel: Any) -> bool:
    if not isinstance(panel, tuple | list) or len(panel) != 2:
        return False
    title, picture = panel
    return isinstance(title, str) and is_picture(picture)


def enlarge(picture: Tensor, smallest: int) -> Tensor:
    """``[...,H,W]`` with each pixel repeated a whole number of times, until the longer side has ``smallest`` pixels."""
    factor = max(1, -(-smallest // max(picture.shape[-2:])))
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def resize_near(pictures: Sequence[Tensor], side: int) -> list[Tensor]:
    """Pictures of one size, enlarged or reduced by a whole factor so that the longer side is nearest to ``side``."""
    longest = max(pictures[0].shape[-2:])
    if longest < 1.5 * side:
        return [enlarge(picture, round(side / longest) * longest) for picture in pictures]
    size = [max(1, s // round(longest / side)) for s in pictures[0].shape[-2:]]
    return list(interpolate(torch.stack(list(pictures)), size, mode="area"))


def join_row(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``[3,H,w]`` of one height as one picture, side by side with three white pixels between them."""
    white = pictures[0].new_ones(3, pictures[0].shape[1], 3)
    return torch.cat([tensor for picture in pictures for tensor in (white, picture)][1:], 2)


def join_column(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``[3,h,w]`` as one picture, one below the other; narrow ones get white at the right."""
    width = max(picture.shape[2] for picture in pictures)
    return torch.cat([pad(picture, (0, width - picture.shape[2]), value=1.0) for picture in pictures], 1)


def _text_width(text: str) -> int:
    return int(measure_text(text, _FONT, 1) + 0.99)


def _arrange(sizes: Sequence[tuple[int, int]], columns: int, gap: int) -> tuple[list[tuple[int, int]], int, int]:
    """The corners of panels (width, height) in columns as wide as their widest panel; then the whole width, height."""
    columns = min(columns, len(sizes))
    widths = [max(w for w, _ in sizes[i::columns]) for i in range(columns)]
    heights = [max(h for _, h in sizes[i : i + columns]) for i in range(0, len(sizes), columns)]
    lefts = [sum(widths[:i]) + gap * i for i in range(columns + 1)]
    tops = [sum(heights[:i]) + gap * i for i in range(len(heights) + 1)]
    return [(lefts[i % columns], tops[i // columns]) for i in range(len(sizes))], lefts[-1] - gap, tops[-1] - gap


def _draw_bar(canvas: Canvas, bar: ColorBar, x: int, y: int, length: int) -> None:
    canvas.text(x, y, bar.title, _INK, _FONT)
    strip = colormap(
        torch.linspace(-1, 1, length, dtype=torch.float32, device="cpu").expand(_FONT - 4, -1), name=bar.name
    )
    canvas.image(strip, x, y + _FONT + 5, length, _FONT - 4, shades=False)
    canvas.text(x, y + 2 * _FONT + 4, f"{bar.low + 0.0:.3g}", _GREY, _FONT)
    canvas.text(x + length, y + 2 * _FONT + 4, f"{bar.high:.3g}", _GREY, _FONT, "ra")
