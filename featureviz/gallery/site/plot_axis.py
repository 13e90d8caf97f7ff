"""The axis of a plot, with places in percent so that plots fit any width; templates/plots.html draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

BINS = 64  # most bars of a histogram


@final
@dataclass(frozen=True)
class PlotAxis:
    """Numbers from ``low`` to ``high`` as percent of a width; numbers beyond are drawn at the edge."""

    low: float
    high: float

    @classmethod
    def around(cls, natural: tuple[float, float], marks: Sequence[float]) -> PlotAxis:
        """The range of the natural numbers, extended to the marks by at most its own width on each side.

        >>> PlotAxis.around((0.0, 10.0), [12.0, -400.0])
        PlotAxis(low=-10.88, high=12.88)
        """
        low, high = natural
        span = max(high - low, 1e-3)
        first, last = max(min(low, *marks), low - span), min(max(high, *marks), high + span)
        edge = 0.04 * (last - first)
        return cls(round(first - edge, 6), round(last + edge, 6))

    def percent(self, value: float) -> float:
        """Percent of the width, 0 to 100."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 2)

    def beyond(self, value: float) -> int:
        """-1 to the left of the axis, 1 to the right, 0 within."""
        return (value > self.high) - (value < self.low)

    def flipped(self) -> PlotAxis:
        """The same axis from the other end: for heights, which SVG counts from the top."""
        return PlotAxis(self.high, self.low)

    def ticks(self, most: int = 7) -> list[float]:
        """About ``most`` round numbers within the axis.

        >>> PlotAxis(-10.3, 9.2).ticks()
        [-10.0, -5.0, 0.0, 5.0]
        """
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(i * step, 10) + 0.0 for i in range(first, last + 1)]


def draw_bars(axis: PlotAxis, bins: Mapping[str, Any], height: int) -> str:
    """The bars of a histogram as the path of an SVG, in a frame of 100 by ``height``; a rare bin is still visible.

    >>> draw_bars(PlotAxis(0, 2), {"start": 0.0, "width": 1.0, "counts": [4, 0, 8]}, 10)
    'M0 10v-5h49.8v5zM100 10v-10h0.4v10z'
    """
    drawn, most = [], max(bins["counts"])
    for i, count in enumerate(bins["counts"]):
        if count:
            left, right = (axis.percent(bins["start"] + k * bins["width"]) for k in (i, i + 1))
            tall = max(height * count / most, 1.5)
            drawn.append(f"M{left:g} {height}v-{tall:.4g}h{max(right - left - 0.2, 0.4):.4g}v{tall:.4g}z")
    return "".join(drawn)


def draw_polyline(values: Sequence[float], low: float, high: float, *, most: int = 100) -> str:
    """The points of a line through ``values``, in a frame of 100 by 40; at most about ``most`` of them.

    >>> draw_polyline([0.0, 1.0, 2.0], 0.0, 2.0)
    '0,39 50,20 100,1'
    """
    axis, step = PlotAxis(low, high if high > low else low + 1), max(1, len(values) // most)
    return " ".join(
        f"{100 * i / (len(values) - 1):.4g},{39 - 0.38 * axis.percent(value):.4g}"
        for i, value in enumerate(values) if i % step == 0 or i == len(values) - 1
    )  # fmt: skip


def merge_bins(start: float, width: float, counts: Sequence[int]) -> dict[str, Any]:
    """Leave out empty bins at both ends, and merge neighbours: at most ``2 n^(1/3)`` bins for n numbers (Rice's
    rule), and at most 64.

    >>> merge_bins(0.0, 0.5, [0, 1, 0, 2, 1, 4, 0])
    {'start': 0.5, 'width': 1.0, 'counts': [1, 3, 4]}
    """
    filled = [i for i, count in enumerate(counts) if count]
    first, end = filled[0], filled[-1] + 1
    merged = -(-(end - first) // max(2, min(BINS, round(2 * sum(counts) ** (1 / 3)))))
    sums = [sum(counts[i : min(i + merged, end)]) for i in range(first, end, merged)]
    return {"start": start + first * width, "width": width * merged, "counts": sums}
