"""The plots of a gate card as inline SVG: a histogram, marks on an axis, and a scatter plot of channel and gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

HEIGHT = 150  # pixels of the histogram


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
        first = max(min(low, *marks), low - span)
        last = min(max(high, *marks), high + span)
        edge = 0.04 * (last - first)
        return cls(round(first - edge, 6), round(last + edge, 6))

    def percent(self, value: float) -> float:
        """Percent of the width, 0 to 100."""
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def beyond(self, value: float) -> int:
        """-1 to the left of the axis, 1 to the right, 0 within."""
        return (value > self.high) - (value < self.low)

    def ticks(self, most: int = 7) -> list[float]:
        """At most ``most`` round numbers within the axis.

        >>> PlotAxis(-10.3, 9.2).ticks()
        [-10.0, -5.0, 0.0, 5.0]
        """
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) + 0.0 for i in range(first, math.floor(self.high / step) + 1)]


def draw_histogram(axis: PlotAxis, start: float, width: float, counts: Sequence[int]) -> str:
    """Bars for the counts of bins of one width."""
    top = max(max(counts), 1)
    bars = []
    for i, count in enumerate(counts):
        if not count:
            continue
        left, right = axis.percent(start + i * width), axis.percent(start + (i + 1) * width)
        tall = max((HEIGHT - 6) * count / top, 1.5)
        bars.append(
            f'<rect x="{left:.2f}%" width="{max(right - left - 0.25, 0.15):.2f}%" y="{HEIGHT - tall:.1f}"'
            f' height="{tall:.1f}" rx="1.5"/>'
        )
    return (
        f'<svg class="bars" style="height:{HEIGHT}px" role="img" aria-label="histogram of the gate\'s logit on natural'
        f' pictures" fill="var(--band)">{"".join(bars)}'
        f'<line x1="0" x2="100%" y1="{HEIGHT}" y2="{HEIGHT}" stroke="var(--line)" stroke-width="2"/></svg>'
    )


def draw_scales(axis: PlotAxis, strip: Sequence[float], ticks: Sequence[tuple[float, float]]) -> str:
    """The scale below a histogram: the gate's values as a coloured strip, and (logit, value) at round logits."""
    last = max(len(strip) - 1, 1)
    stops = "".join(
        f'<stop offset="{i / last:.4f}" style="stop-color:color-mix(in oklab,var(--open) {100 * v:.0f}%,var(--shut))"/>'
        for i, v in enumerate(strip)
    )
    numbers = "".join(
        f'<text x="{axis.percent(z):.2f}%" y="26" text-anchor="middle">{_short(z)}</text>'
        f'<text x="{axis.percent(z):.2f}%" y="42" text-anchor="middle" class="value">{v:.2f}</text>'
        for z, v in ticks
    )
    return (
        '<svg class="axis" style="height:46px" aria-hidden="true"><defs><linearGradient id="gate">'
        f'{stops}</linearGradient></defs><rect x="0" y="4" width="100%" height="7" rx="3.5" fill="url(#gate)"/>'
        f"{numbers}</svg>"
    )


def draw_mark(axis: PlotAxis, natural: Sequence[float], value: float, tone: str) -> str:
    """One value on the axis, over the natural quantiles at 0.1, 5, 50, 95, 99.9 %."""
    low, q5, _, q95, high = natural
    colour = {"open": "var(--open)", "shut": "var(--shut)"}.get(tone, "var(--ink)")
    x, side = axis.percent(value), axis.beyond(value)
    dot = (
        _draw_arrow(side, colour)
        if side
        else f'<circle cx="{x:.2f}%" cy="11" r="6" fill="{colour}" stroke="var(--card)" stroke-width="2"/>'
    )
    return (
        '<svg class="row" aria-hidden="true">'
        + _draw_bar(axis, low, high, "var(--range)")
        + _draw_bar(axis, q5, q95, "var(--band)")
        + f"{dot}</svg>"
    )


def draw_span(axis: PlotAxis, low: float, high: float) -> str:
    """A line from ``low`` to ``high``; each end has a tick, or an arrow if it lies beyond the axis."""
    left, right = axis.percent(low), axis.percent(high)
    ends = "".join(
        _draw_arrow(side, "var(--soft)")
        if (side := axis.beyond(end))
        else f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="5" y2="17" stroke="var(--soft)" stroke-width="2"/>'
        for end, x in ((low, left), (high, right))
    )
    return (
        f'<svg class="row" aria-hidden="true"><line x1="{left:.2f}%" x2="{right:.2f}%" y1="11" y2="11"'
        f' stroke="var(--soft)" stroke-width="2"/>{ends}</svg>'
    )


def draw_scatter(
    points: Sequence[Sequence[float]],
    corners: tuple[tuple[float, float], tuple[float, float]],
    marks: Sequence[tuple[str, str, float, float]],
) -> str:
    """Channel against logit: natural images as points, ``corners`` as lines, renders as (label, tone, x, y)."""
    across = PlotAxis.around(_min_max([p[0] for p in points]), [m[2] for m in marks])
    up = PlotAxis.around(_min_max([p[1] for p in points]), [m[3] for m in marks])

    def x(value: float) -> float:
        return across.percent(value)

    def y(value: float) -> float:
        return 100 - up.percent(value)

    dots = "".join(f'<circle cx="{x(a):.1f}%" cy="{y(b):.1f}%" r="2.4"/>' for a, b in points)
    lines = "".join(f'<line x1="{x(v):.2f}%" x2="{x(v):.2f}%" y1="0" y2="100%"/>' for v in corners[0])
    lines += "".join(f'<line y1="{y(v):.2f}%" y2="{y(v):.2f}%" x1="0" x2="100%"/>' for v in corners[1])
    renders = "".join(
        f'<circle cx="{x(a):.1f}%" cy="{y(b):.1f}%" r="7" fill="var(--{tone})" stroke="var(--card)"'
        f' stroke-width="2"/><text x="{x(a):.1f}%" y="{y(b):.1f}%" dy="{-13 if y(b) > 50 else 22}"'
        f' text-anchor="{"start" if x(a) < 30 else "end" if x(a) > 70 else "middle"}">{label}</text>'
        for label, tone, a, b in marks
    )
    return (
        '<svg class="scatter" role="img" aria-label="channel before the gate against the gate\'s logit">'
        f'<g stroke="var(--line)" stroke-width="1.5">{lines}</g><g fill="var(--band)">{dots}</g>{renders}</svg>'
    )


def _min_max(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _draw_bar(axis: PlotAxis, low: float, high: float, colour: str) -> str:
    left, right = axis.percent(low), axis.percent(high)
    return f'<rect x="{left:.2f}%" y="7" width="{max(right - left, 0.4):.2f}%" height="8" rx="3" fill="{colour}"/>'


def _draw_arrow(side: int, colour: str) -> str:
    """An arrow at the edge of the axis; in a nested svg, because the coordinates of a path cannot be percentages."""
    x, path = ("100%", "M-9 4 1 11-9 18Z") if side > 0 else ("0", "M9 4-1 11 9 18Z")
    return f'<svg x="{x}" overflow="visible"><path d="{path}" fill="{colour}"/></svg>'


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
