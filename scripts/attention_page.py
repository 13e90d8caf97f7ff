"""The page that attention_demo.py draws: aligned colour maps with their numbers, on one scale in each section."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from kornia.color import ApplyColorMap, ColorMap
from torch import Tensor, nn

from featureviz.lab.draw.canvas import WHITE, Canvas, Color

INK, DIM, PAPER = (28, 39, 51), (93, 107, 120), (251, 250, 247)
LINE, ACCENT = (201, 201, 194), (226, 85, 43)
MARGIN, GAP, BAND = 44, 8, 472  # pixels; BAND is the width of the channels side by side
WEIGHT = 112  # side of a tile of weights
WEIGHTS = MARGIN + 236
OUTPUT = WEIGHTS + 2 * WEIGHT + GAP + 36
REMOVED = OUTPUT + BAND + 36
WIDTH, HEIGHT = REMOVED + BAND + MARGIN, 1800
SHADES = [  # from paper to ink
    [0.985, 0.98, 0.965], [0.80, 0.90, 0.84], [0.50, 0.78, 0.75], [0.25, 0.58, 0.68],
    [0.19, 0.38, 0.56], [0.17, 0.20, 0.40], [0.08, 0.07, 0.18],
]  # fmt: skip
COLORS = ApplyColorMap(ColorMap(SHADES, 128))


@final
@dataclass(frozen=True)
class Reweighted:
    """One attention on one map: its weights ``[C]`` and ``[H,W]``, if it has them, and its output ``[C,H,W]``."""

    name: str
    formula: str
    output: Tensor
    channel: Tensor | None = None
    spatial: Tensor | None = None


@final
class Page:
    """A sheet that is drawn from top to bottom: ``draw_section`` for each section, then ``picture``."""

    def __init__(self, title: str, subtitle: str) -> None:
        self.canvas = Canvas(WIDTH, HEIGHT, scale=1, paper=PAPER)
        self.text(MARGIN, 36, title, 30, INK)
        self.text(MARGIN, 82, subtitle, 16)
        self.y = 134

    def picture(self) -> Tensor:
        """What has been drawn, ``[3,H,W]`` in [0,1], without the empty rest of the sheet."""
        return self.canvas.picture()[:, : self.y - 14]

    def draw_section(self, heading: str, x: Tensor, source: Tensor | str, rows: Sequence[Reweighted]) -> None:
        """One map ``[C,H,W]`` and its reweightings; ``source`` is a photograph ``[3,h,h]``, or a text on the map."""
        units = find_coarsest(x, 4)
        top = max(1, math.ceil(float(x[units].quantile(0.995))))
        self.text(MARGIN, self.y, heading, 18, INK)
        self.y += 42
        side = self._draw_input(x, units, top, source)
        self.y += side + 44
        for place, title in (
            (WEIGHTS, "Channel weights"), (WEIGHTS + WEIGHT + GAP, "Position weights"), (OUTPUT, "Output"),
            (REMOVED, "Taken away: input - output"),
        ):  # fmt: skip
            self.text(place, self.y, title, 14, INK)
        self.y += 26
        for row in rows:
            self._draw_reweighted(x, units, top, row)
            self.y += side + 40
        self.y += 24

    def _draw_input(self, x: Tensor, units: list[int], top: float, source: Tensor | str) -> int:
        """The map before any attention, its source and the colour bars; returns the side of its tiles."""
        y = self.y
        which = f"{len(units)} of them shown, with their\nweights framed" if len(units) < len(x) else "all shown"
        self.text(MARGIN, y, "Input", 17, INK)
        self.text(MARGIN, y + 28, f"{len(x)} channels of {x.shape[1]}x{x.shape[2]},\n{which}")
        if isinstance(source, str):
            self.text(WEIGHTS, y, source)
        else:
            self.draw_tile(WEIGHTS, y, source, (WEIGHT, WEIGHT))
            self.text(WEIGHTS + WEIGHT / 2, y + WEIGHT + 5, "photograph", 13, anchor="ma")
        above = f"; {top} and more are darkest" if top < x[units].max() else ""
        self.draw_bar(REMOVED, y, f"activation, in every map of this section{above}", top)
        self.draw_bar(REMOVED, y + 62, "weight", 1.0)
        return self.draw_band(OUTPUT, x[units], top, [f"no. {c}   mean {float(x[c].mean()):.2f}" for c in units])

    def _draw_reweighted(self, x: Tensor, units: list[int], top: float, row: Reweighted) -> None:
        """One attention: its name, its weights, its output, and what it removes."""
        y, removed = self.y, x - row.output
        kept = float(row.output.sum() / x.sum().clamp(min=1e-12))
        self.text(MARGIN, y, row.name, 17, INK)
        self.text(MARGIN, y + 28, f"{row.formula}\nkeeps {kept:.0%} of the sum")
        self.draw_weights(WEIGHTS, row.channel, units)
        self.draw_weights(WEIGHTS + WEIGHT + GAP, row.spatial, units)
        factors = [f"x {float(row.channel[c]):.2f}   " if row.channel is not None else "" for c in units]
        means = [f"{f}mean {float(row.output[c].mean()):.2f}" for f, c in zip(factors, units, strict=True)]
        self.draw_band(OUTPUT, row.output[units], top, means)
        self.draw_band(REMOVED, removed[units], top, [f"mean {float(removed[c].mean()):.2f}" for c in units])

    def draw_weights(self, x: int, weights: Tensor | None, marked: Sequence[int]) -> None:
        """Weights ``[H,W]``, or ``[C]`` row by row with frames around the marked channels; their range below."""
        if weights is None:
            self.text(x + WEIGHT / 2, self.y + WEIGHT / 2, "none", 14, anchor="mm")
            return
        grid = to_square(weights) if weights.ndim == 1 else weights
        self.draw_map(x, self.y, grid, 1.0, (WEIGHT, WEIGHT))
        range_text = f"{float(weights.min()):.2f} to {float(weights.max()):.2f}"
        self.text(x + WEIGHT / 2, self.y + WEIGHT + 5, range_text, 13, anchor="ma")
        if weights.ndim == 1 and len(marked) < len(weights):
            cell = WEIGHT / grid.shape[1]
            for row, column in (divmod(c, grid.shape[1]) for c in marked):
                left, above = round(x + column * cell), round(self.y + row * cell)
                self.canvas.frame(left - 1, above - 1, left + round(cell), above + round(cell), ACCENT, 2)

    def draw_band(self, x: int, maps: Tensor, top: float, captions: Sequence[str]) -> int:
        """Maps ``[n,H,W]`` side by side with captions below; returns their side."""
        side = (BAND - (len(maps) - 1) * GAP) // len(maps)
        for i, (values, caption) in enumerate(zip(maps, captions, strict=True)):
            self.draw_map(x + i * (side + GAP), self.y, values, top, (side, side))
            self.text(x + i * (side + GAP) + side / 2, self.y + side + 5, caption, 13, anchor="ma")
        return side

    def draw_bar(self, x: int, y: int, label: str, top: float) -> None:
        """A colour bar as wide as a band."""
        self.text(x, y, label, 13)
        self.draw_map(x, y + 20, torch.linspace(0, 1, BAND)[None], 1.0, (BAND, 12))
        for share, anchor in ((0, "la"), (0.25, "ma"), (0.5, "ma"), (0.75, "ma"), (1, "ra")):
            self.text(x + share * BAND, y + 36, f"{share * top:.4g}", 12, anchor=anchor)

    def draw_map(self, x: int, y: int, values: Tensor, top: float, size: tuple[int, int]) -> None:
        """``[H,W]`` from 0 to ``top`` as colours, with the numbers if the cells are wide enough."""
        shades = COLORS((values.nan_to_num() / top).clamp(0, 1)[None])[0]
        shades[:, values.isnan()] = torch.tensor(LINE)[:, None] / 255
        self.draw_tile(x, y, shades, size)
        rows, columns = values.shape
        width, height = size[0] / columns, size[1] / rows
        if width < 26:
            return
        whole = bool((values == values.round()).all())
        for i, j in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist():
            luminance = float(torch.tensor([0.299, 0.587, 0.114]) @ shades[:, i, j])
            text = f"{float(values[i, j]):{'.0f' if whole or not values[i, j] else '.2f'}}"
            place = x + (j + 0.5) * width, y + (i + 0.5) * height
            self.text(*place, text, 15 if width > 36 else 12, INK if luminance > 0.55 else WHITE, "mm")

    def draw_tile(self, x: int, y: int, picture: Tensor, size: tuple[int, int]) -> None:
        """A picture with a frame; larger pictures are smoothed, smaller ones become blocks."""
        self.canvas.image(picture, x, y, *size, smooth=picture.shape[2] > size[0], shades=False)
        self.canvas.frame(x - 1, y - 1, x + size[0], y + size[1], LINE)

    def text(
        self, x: float, y: float, text: str, size: int = 14, color: Color = DIM, anchor: str | None = None
    ) -> None:
        self.canvas.text(x, y, text, color, size, anchor)


def find_coarsest(x: Tensor, count: int) -> list[int]:
    """The channels of ``[C,H,W]`` with the largest shapes: most variance after averaging 4x4 positions."""
    smooth = nn.functional.avg_pool2d(x, 4, ceil_mode=True).flatten(1)
    return sorted(smooth.var(1, correction=0).topk(min(count, len(x))).indices.tolist())


def to_square(weights: Tensor) -> Tensor:
    """``[C]`` as a square, row by row, the rest NaN; at most four stay in one row."""
    columns = len(weights) if len(weights) <= 4 else math.ceil(math.sqrt(len(weights)))
    rows = columns if len(weights) > 4 else 1
    return nn.functional.pad(weights, (0, rows * columns - len(weights)), value=float("nan")).view(rows, columns)
