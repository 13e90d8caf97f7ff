"""The plots of a gate as inline SVG, with places in percent so that they fit any width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

HEIGHT = 150  # pixels of the bars of a histogram


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


def draw_row(axis: PlotAxis, quantiles: Iterable[float], marks: Sequence[tuple[float, str]]) -> str:
    """Marks (value, tone) over natural quantiles at 0.1, 5, 50, 95 and 99.9 %; a mark beyond the axis is an arrow."""
    low, q5, middle, q95, high = quantiles
    drawn = [_draw_bar(axis, low, high, "range"), _draw_bar(axis, q5, q95, "band")]
    drawn.append(_draw_bar(axis, middle, middle, "card"))
    for value, tone in marks:
        if side := axis.beyond(value):
            x, anchor, arrow = ("100%", "end", "▸") if side > 0 else ("0", "start", "◂")
            style = f"font-size:24px;fill:var(--{tone})"
            drawn.append(f'<text x="{x}" y="18" text-anchor="{anchor}" style="{style}">{arrow}</text>')
        else:
            drawn.append(_draw_dot(axis.percent(value), "11", 6, tone))
    return f'<svg class="row" aria-hidden="true">{"".join(drawn)}</svg>'


def draw_histogram(
    axis: PlotAxis, start: float, width: float, counts: Sequence[int], ticks: Iterable[tuple[float, float]]
) -> str:
    """Bars for the counts of bins of one width; below them the ticks as (logit, value of the gate)."""
    heights = [max(HEIGHT * count / max(counts), 1.5) if count else 0.0 for count in counts]  # a rare bin is visible
    bars = "".join(
        _draw_bar(axis, start + i * width, start + (i + 1) * width, "band", height, HEIGHT - height)
        for i, height in enumerate(heights)
    )
    numbers = "".join(
        f'<text x="{axis.percent(logit)}%" y="{HEIGHT + 15}">{with_minus(f"{logit:g}")}</text>'
        f'<text x="{axis.percent(logit)}%" y="{HEIGHT + 30}" class="value">{value:.2f}</text>'
        for logit, value in ticks
    )
    return f'<svg class="bars" role="img" aria-label="histogram of the logit on natural pictures">{bars}{numbers}</svg>'


def draw_scatter(
    points: Sequence[Sequence[float]],
    corners: Sequence[Sequence[float]],
    marks: Sequence[tuple[str, str, float, float]],
) -> str:
    """Channel against logit: natural images as points, ``corners`` as lines, renders as (label, tone, x, y)."""
    xs, ys = zip(*points, strict=True)
    across = PlotAxis.around((min(xs), max(xs)), [mark[2] for mark in marks])
    up = PlotAxis.around((min(ys), max(ys)), [mark[3] for mark in marks])
    down = PlotAxis(up.high, up.low)  # y is counted from the top
    drawn = [f'<line x1="{(x := across.percent(v))}%" x2="{x}%" y1="0" y2="100%"/>' for v in corners[0]]
    drawn += [f'<line x1="0" x2="100%" y1="{(y := down.percent(v))}%" y2="{y}%"/>' for v in corners[1]]
    drawn += [_draw_dot(across.percent(a), f"{down.percent(b)}%", 2.4, "band") for a, b in points]
    for label, tone, a, b in marks:
        x, y = across.percent(a), down.percent(b)
        anchor = "start" if x < 30 else "end" if x > 70 else "middle"
        drawn.append(_draw_dot(x, f"{y}%", 7, tone))
        drawn.append(f'<text x="{x}%" y="{y}%" dy="{-13 if y > 50 else 22}" text-anchor="{anchor}">{label}</text>')
    label = "channel before the gate against the gate's logit"
    return f'<svg class="scatter" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _draw_bar(axis: PlotAxis, low: float, high: float, tone: str, height: float = 8, top: float = 7) -> str:
    left = axis.percent(low)
    width = max(axis.percent(high) - left - 0.2, 0.4)
    return f'<rect x="{left}%" y="{top:.1f}" width="{width:.2f}%" height="{height:.1f}" rx="2" fill="var(--{tone})"/>'


def _draw_dot(x: float, y: str, radius: float, tone: str) -> str:
    return f'<circle cx="{x}%" cy="{y}" r="{radius}" fill="var(--{tone})" stroke="var(--card)"/>'


def with_minus(text: str) -> str:
    """Hyphens as minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")
