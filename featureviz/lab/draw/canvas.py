"""A canvas with text, lines, boxes, dots and images. All text of the laboratory's pictures is drawn here, by Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard, final

import numpy as np
import torch
from torch import Tensor

from featureviz.checks import holds_numbers, show, whole
from featureviz.errors import InvalidInput
from featureviz.files import write_bytes
from featureviz.image.base import SIDE
from featureviz.rendering.png import encode_png, name_png, to_pixels

Color = tuple[int, int, int]
Point = tuple[float, float]

SHADES = [min(8 * round(v / 8), 255) for v in range(256)]  # 33 levels a channel: the PNG has half the bytes
PIXELS = 2**29  # of a sheet before it is reduced: 1.5 gigabytes
WHITE, INK, GREY, FAINT, PALE = (255, 255, 255), (34, 36, 42), (112, 116, 124), (206, 209, 214), (238, 240, 243)
WARM, COOL = (202, 74, 52), (46, 110, 178)  # for open gates, for shut gates


@final
class Canvas:
    """A sheet to draw on. Places and sizes are in pixels of the finished picture; ``paper`` is the background.

    Everything but images is drawn at ``scale`` times the size and reduced, so that edges are smooth. Then images lie
    over everything else. With ``scale=1`` they are drawn in order.

    >>> canvas = Canvas(40, 20)
    >>> canvas.dot(10, 10, 4, WARM)
    >>> canvas.picture().shape
    torch.Size([3, 20, 40])
    """

    def __init__(self, width: int, height: int, *, scale: int = 2, paper: Color = WHITE) -> None:
        from PIL import Image, ImageDraw  # imported here so that `import featureviz` stays light

        scale = whole("scale", scale, 1, 8)
        width, height = (whole(n, v, 1, SIDE) for n, v in (("width", width), ("height", height)))
        if width * height * scale**2 > PIXELS:
            raise InvalidInput(
                f"a sheet of {width} x {height} was asked for; it has at most {PIXELS // scale**2:,} pixels"
            )
        self.width, self.height, self.scale = width, height, scale
        self._sheet = Image.new("RGB", (width * scale, height * scale), paper)
        self._pen = ImageDraw.Draw(self._sheet)
        self._images: list[tuple[Any, int, int]] = []

    def text(
        self, x: float, y: float, text: str, color: Color = INK, size: int = 13, anchor: str | None = None, *,
        bold: bool = False,
    ) -> None:  # fmt: skip
        """Draw text. ``anchor`` is Pillow's: l, m, r across, then a (top), m (middle), s (baseline), d (bottom)."""
        place, font = (x * self.scale, y * self.scale), load_font(size * self.scale)
        self._pen.text(place, text, color, font, anchor, spacing=5 * self.scale, stroke_width=0.7 if bold else 0)

    def line(self, points: Sequence[Point], color: Color = INK, width: float = 1.0) -> None:
        """Draw a line through all points."""
        self._pen.line([(x * self.scale, y * self.scale) for x, y in points], color, round(width * self.scale), "curve")

    def area(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        self._pen.polygon([(x * self.scale, y * self.scale) for x, y in points], color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color, radius: float = 0.0) -> None:
        """Fill a box with round corners; a box without width or height is not drawn."""
        left, top, right, bottom = (round(v * self.scale) for v in (x0, y0, x1, y1))
        if left < right and top < bottom:
            corners = (left, top, right - 1, bottom - 1)  # Pillow draws the last pixel too
            self._pen.rounded_rectangle(corners, min(radius, (x1 - x0) / 2, (y1 - y0) / 2) * self.scale, color)

    def frame(self, x0: int, y0: int, x1: int, y1: int, color: Color, width: int = 1) -> None:
        """Draw the outline of a box; the corners belong to it."""
        corners = [v * self.scale for v in (x0, y0, x1, y1)]
        self._pen.rectangle(corners, outline=color, width=width * self.scale)

    def dot(self, x: float, y: float, radius: float, color: Color, *, hollow: bool = False) -> None:
        """Draw a disc, or a ring if ``hollow``, with a white edge."""
        for r, fill in ((radius + 1, WHITE), (radius, color), (radius - 2.5, WHITE if hollow else color)):
            self._pen.ellipse([v * self.scale for v in (x - r, y - r, x + r, y + r)], fill)

    def image(
        self, image: Tensor, x: float, y: float, width: int, height: int | None = None, *, smooth: bool = True,
        shades: bool = True,
    ) -> None:  # fmt: skip
        """Draw ``[3,h,w]`` in [0,1], resized to ``width`` by ``height`` (the default is a square).

        ``smooth`` interpolates, otherwise each pixel becomes a block. ``shades`` rounds the colours to 33 levels.
        """
        from PIL import Image

        method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        resized = Image.fromarray(to_pixels(image)).resize((width, height or width), method)
        resized = resized.point(SHADES * 3) if shades else resized
        if self.scale == 1:
            self._sheet.paste(resized, (round(x), round(y)))
        else:
            self._images.append((resized, round(x), round(y)))

    def picture(self) -> Tensor:
        """What has been drawn so far, ``[3,H,W]`` in [0,1]."""
        sheet = self._sheet.reduce(self.scale) if self.scale > 1 else self._sheet.copy()
        for image, x, y in self._images:
            sheet.paste(image, (x, y))
        return torch.from_numpy(np.array(sheet)).movedim(-1, 0).float() / 255

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as a PNG and return its path."""
        return save_picture(self.picture(), path)


def is_picture(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor ``[3,H,W]`` of numbers, not empty."""
    return holds_numbers(value) and value.ndim == 3 and len(value) == 3 and value.numel() > 0


def save_picture(picture: Tensor, path: str | os.PathLike[str]) -> Path:
    """Write ``[3,H,W]`` in [0,1] as a PNG (the whole file or none) and return its path."""
    target = name_png(path)
    if not is_picture(picture):
        raise InvalidInput(f"picture={show(picture)} was given; expected a tensor [3,H,W]")
    write_bytes(target, encode_png(picture))
    return target


def measure_text(text: str, size: int = 13, scale: int = 2) -> float:
    """The width of a line of text in pixels."""
    return load_font(size * scale).getlength(text) / scale


def load_font(size: int) -> Any:
    """Pillow's default font."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
