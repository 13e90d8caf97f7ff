"""Drawing at twice the size, so that lines, dots and letters come out smooth; images are laid on as they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import final

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featureviz.files import write_bytes
from featureviz.rendering.png import to_pixels

Colour = tuple[int, int, int]
Point = tuple[float, float]

SCALE = 2
SHADES = [min(8 * round(v / 8), 255) for v in range(256)]  # of images: equal steps, for a PNG of half the bytes
WHITE, INK, GREY, FAINT, PALE = (255, 255, 255), (34, 36, 42), (112, 116, 124), (206, 209, 214), (238, 240, 243)
WARM, COOL = (202, 74, 52), (46, 110, 178)  # what opens a gate, what shuts it


@final
class Canvas:
    """A white sheet; places and sizes are pixels of the finished picture.

    >>> sheet = Canvas(40, 20)
    >>> sheet.dot(10, 10, 4, WARM)
    >>> sheet.picture().size
    (40, 20)
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._sheet = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self._pen = ImageDraw.Draw(self._sheet)
        self._images: list[tuple[Image.Image, int, int]] = []

    def text(
        self, x: float, y: float, text: str, colour: Colour = INK, size: int = 13, anchor: str = "la", *,
        bold: bool = False,
    ) -> None:  # fmt: skip
        """``anchor`` as PIL names it: l, m, r across and a (top), m, s (baseline), d down."""
        at, font = (x * SCALE, y * SCALE), ImageFont.load_default(size * SCALE)
        self._pen.text(at, text, colour, font, anchor, stroke_width=0.7 if bold else 0)

    def line(self, points: Sequence[Point], colour: Colour = INK, width: float = 1.0) -> None:
        self._pen.line([(x * SCALE, y * SCALE) for x, y in points], colour, round(width * SCALE), "curve")

    def area(self, points: Sequence[Point], colour: Colour) -> None:
        self._pen.polygon([(x * SCALE, y * SCALE) for x, y in points], colour)

    def dashed(self, x: float, top: float, bottom: float, colour: Colour = FAINT, dash: float = 3.0) -> None:
        """Straight down."""
        y = top
        while y < bottom:
            self.line([(x, y), (x, min(y + dash, bottom))], colour)
            y += 2 * dash

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0.0) -> None:
        """Nothing where it has no width or height."""
        left, top, right, bottom = (round(v * SCALE) for v in (x0, y0, x1, y1))
        if left < right and top < bottom:
            corners = (left, top, right - 1, bottom - 1)  # PIL draws the last pixel too
            self._pen.rounded_rectangle(corners, min(radius, (x1 - x0) / 2, (y1 - y0) / 2) * SCALE, colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour, *, hollow: bool = False) -> None:
        for r, fill in ((radius + 1, WHITE), (radius, colour), (radius - 2.5, WHITE if hollow else colour)):
            self._pen.ellipse([(x - r) * SCALE, (y - r) * SCALE, (x + r) * SCALE, (y + r) * SCALE], fill)

    def image(self, image: Tensor, x: float, y: float, side: int) -> None:
        """``[3,h,h]`` in [0,1] as a square; drawn above all the rest."""
        small = Image.fromarray(to_pixels(image)).resize((side, side), Image.Resampling.LANCZOS)
        self._images.append((small.point(SHADES * 3), round(x), round(y)))

    def picture(self) -> Image.Image:
        sheet = self._sheet.reduce(SCALE)
        for image, x, y in self._images:
            sheet.paste(image, (x, y))
        return sheet

    def save(self, path: Path) -> Path:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png", optimize=True)
        write_bytes(path, buffer.getvalue())
        return path


def length(text: str, size: int = 13) -> float:
    """How wide a line of text is, in pixels."""
    return ImageFont.load_default(size * SCALE).getlength(text) / SCALE


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
