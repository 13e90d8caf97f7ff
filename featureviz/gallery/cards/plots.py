"""A gate's natural range as inline SVG: histogram, marks on one axis, and content against gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

HEIGHT = 150  # pixels: of the histogram


@final
@dataclass(frozen=True)
class Axis:
    """Numbers from ``low`` to ``high`` as percent of a width; what lies beyond is drawn at the edge."""

    low: float
    high: float

    @classmethod
    def around(cls, natural: tuple[float, float], marks: Sequence[float]) -> Axis:
        """Natural numbers and marks, these no further out than nature is wide.

        >>> Axis.around((0.0, 10.0), [12.0, -400.0])
        Axis(low=-10.88, high=12.88)
        """
        low, high = natural
        span = max(high - low, 1e-3)
        first = max(min(low, *marks), low - span)
        last = min(max(high, *marks), high + span)
        edge = 0.04 * (last - first)
        return cls(round(first - edge, 6), round(last + edge, 6))

    def at(self, value: float) -> float:
        """Percent of the width, 0 to 100."""
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def beyond(self, value: float) -> int:
        """-1 where it lies to the left of the axis, 1 to the right, else 0."""
        return (value > self.high) - (value < self.low)

    def ticks(self, most: int = 7) -> list[float]:
        """Round numbers within the axis, at most ``most``.

        >>> Axis(-10.3, 9.2).ticks()
        [-10.0, -5.0, 0.0, 5.0]
        """
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) + 0.0 for i in range(first, math.floor(self.high / step) + 1)]


def histogram(axis: Axis, start: float, width: float, counts: Sequence[int]) -> str:
    """Bars for the counts of bins of one width."""
    top = max(max(counts), 1)
    bars = []
    for i, count in enumerate(counts):
        if not count:
            continue
        left, right = axis.at(start + i * width), axis.at(start + (i + 1) * width)
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


def scales(axis: Axis, strip: Sequence[float], ticks: Sequence[tuple[float, float]]) -> str:
    """Below a histogram: the gate's value as a coloured strip, and (logit, value) at round logits."""
    last = max(len(strip) - 1, 1)
    stops = "".join(
        f'<stop offset="{i / last:.4f}" style="stop-color:color-mix(in oklab,var(--open) {100 * v:.0f}%,var(--shut))"/>'
        for i, v in enumerate(strip)
    )
    numbers = "".join(
        f'<text x="{axis.at(z):.2f}%" y="26" text-anchor="middle">{_short(z)}</text>'
        f'<text x="{axis.at(z):.2f}%" y="42" text-anchor="middle" class="value">{v:.2f}</text>'
        for z, v in ticks
    )
    return (
        '<svg class="axis" style="height:46px" aria-hidden="true"><defs><linearGradient id="gate">'
        f'{stops}</linearGradient></defs><rect x="0" y="4" width="100%" height="7" rx="3.5" fill="url(#gate)"/>'
        f"{numbers}</svg>"
    )


def mark(axis: Axis, natural: Sequence[float], value: float, tone: str) -> str:
    """One render or noise on the axis, over the natural quantiles at 0.1, 5, 50, 95, 99.9 %."""
    low, q5, _, q95, high = natural
    colour = {"open": "var(--open)", "shut": "var(--shut)"}.get(tone, "var(--ink)")
    x, side = axis.at(value), axis.beyond(value)
    dot = (
        _arrow(side, colour)
        if side
        else f'<circle cx="{x:.2f}%" cy="11" r="6" fill="{colour}" stroke="var(--card)" stroke-width="2"/>'
    )
    return (
        '<svg class="row" aria-hidden="true">'
        + _bar(axis, low, high, "var(--range)")
        + _bar(axis, q5, q95, "var(--band)")
        + f"{dot}</svg>"
    )


def span(axis: Axis, low: float, high: float) -> str:
    """A line from ``low`` to ``high`` with a tick, or an arrow where the axis ends before, at each end."""
    ends = "".join(
        _arrow(side, "var(--soft)")
        if (side := axis.beyond(end))
        else f'<line x1="{axis.at(end):.2f}%" x2="{axis.at(end):.2f}%" y1="5" y2="17" stroke="var(--soft)"'
        ' stroke-width="2"/>'
        for end in (low, high)
    )
    return (
        f'<svg class="row" aria-hidden="true"><line x1="{axis.at(low):.2f}%" x2="{axis.at(high):.2f}%" y1="11" y2="11"'
        f' stroke="var(--soft)" stroke-width="2"/>{ends}</svg>'
    )


def scatter(
    points: Sequence[Sequence[float]],
    corners: tuple[tuple[float, float], tuple[float, float]],
    marks: Sequence[tuple[str, str, float, float]],
) -> str:
    """Natural images as points (content, logit), the 10 and 90 % of both as lines, renders as (label, tone, x, y)."""
    across = Axis.around(_ends([p[0] for p in points]), [m[2] for m in marks])
    up = Axis.around(_ends([p[1] for p in points]), [m[3] for m in marks])

    def y(value: float) -> float:
        return 100 - up.at(value)

    dots = "".join(f'<circle cx="{across.at(a):.1f}%" cy="{y(b):.1f}%" r="2.4"/>' for a, b in points)
    lines = "".join(f'<line x1="{across.at(v):.2f}%" x2="{across.at(v):.2f}%" y1="0" y2="100%"/>' for v in corners[0])
    lines += "".join(f'<line y1="{y(v):.2f}%" y2="{y(v):.2f}%" x1="0" x2="100%"/>' for v in corners[1])
    told = "".join(
        f'<circle cx="{across.at(a):.1f}%" cy="{y(b):.1f}%" r="7" fill="var(--{tone})" stroke="var(--card)"'
        f' stroke-width="2"/><text x="{across.at(a):.1f}%" y="{y(b):.1f}%" dy="{-13 if y(b) > 50 else 22}"'
        f' text-anchor="{"start" if across.at(a) < 30 else "end" if across.at(a) > 70 else "middle"}">{label}</text>'
        for label, tone, a, b in marks
    )
    return (
        f'<svg class="scatter" role="img" aria-label="channel before the gate against the'
        f" gate's logit\">"
        f'<g stroke="var(--line)" stroke-width="1.5">{lines}</g><g fill="var(--band)">{dots}</g>{told}</svg>'
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _bar(axis: Axis, low: float, high: float, colour: str) -> str:
    left, right = axis.at(low), axis.at(high)
    return f'<rect x="{left:.2f}%" y="7" width="{max(right - left, 0.4):.2f}%" height="8" rx="3" fill="{colour}"/>'


def _arrow(side: int, colour: str) -> str:
    """At the edge of the axis, outwards; a nested svg, since paths know no percent."""
    x, path = ("100%", "M-9 4 1 11-9 18Z") if side > 0 else ("0", "M9 4-1 11 9 18Z")
    return f'<svg x="{x}" overflow="visible"><path d="{path}" fill="{colour}"/></svg>'


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
