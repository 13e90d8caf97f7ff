"""HTML pages that open from disk: without a server, scripts or outside addresses, for light and dark, any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple, final

from featureviz.files import write_bytes

GATE_INTRO = (
    "A squeeze-and-excitation gate looks at the whole picture and decides how much of one channel passes: 1 lets the"
    " channel through, 0 blocks it."
)


@final
@dataclass(frozen=True)
class Picture:
    """A tile: its file name, what it shows, and the figure under it."""

    file: str
    title: str
    figure: str
    tone: str = ""  # "open" or "shut": the colour of the title


@final
@dataclass(frozen=True)
class Card:
    """One unit: its name, its pictures, and the link to its own page.

    A gate's card has an axis of its values in [0,1]: ``quantiles`` are those of natural pictures at 0.1, 5, 50, 95 and
    99.9 %, ``marks`` are values of renders by tone (``"open"``, ``"shut"``) and of ``"noise"``.
    """

    title: str
    subtitle: str
    pictures: Sequence[Picture]
    quantiles: Sequence[float] = ()
    marks: Sequence[tuple[str, float]] = ()
    remark: str = ""
    href: str = ""


_STYLE = """
:root{color-scheme:light dark;--paper:#faf9f7;--card:#fff;--ink:#1d1c1a;--soft:#6b6862;--line:#e4e1db;
--open:#b4540a;--shut:#0b6a8f;--band:#c9c4ba;--range:#e6e2da}
@media(prefers-color-scheme:dark){:root{--paper:#131312;--card:#1c1c1a;--ink:#eceae5;--soft:#a09c93;--line:#2e2d2a;
--open:#f2a154;--shut:#6cc3e6;--band:#5a574f;--range:#34322e}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:clamp(20px,4vw,56px) clamp(14px,3vw,32px)}
h1{font-size:clamp(26px,4vw,40px);line-height:1.15;letter-spacing:-.02em;margin:0 0 12px;text-wrap:balance}
header p{max-width:68ch;color:var(--soft);margin:0 0 10px}
header strong{color:var(--ink);font-weight:600}
.cards{display:grid;gap:clamp(14px,2vw,24px);grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));margin-top:28px}
.cards.small{grid-template-columns:repeat(auto-fill,minmax(min(46%,190px),1fr))}
article{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:16px;min-width:0;
position:relative}
.small article{padding:10px}
h2{font:600 16px/1.3 ui-monospace,SFMono-Regular,Menlo,monospace;margin:0;overflow-wrap:anywhere}
.small h2{font-size:12.5px}
.sub{color:var(--soft);font-size:13.5px;margin:2px 0 12px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:10px}
figure{margin:0;min-width:0}
img{display:block;width:100%;height:auto;border-radius:9px;background:var(--line)}
figcaption{font-size:13.5px;margin-top:6px;color:var(--soft);font-variant-numeric:tabular-nums}
figcaption b{display:block;font-weight:600;color:var(--ink)}
b.open{color:var(--open)}b.shut{color:var(--shut)}
svg{display:block;width:100%;height:44px;margin-top:12px;overflow:visible}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
a{color:inherit;text-decoration-color:var(--band);text-underline-offset:3px}
h2 a::after{content:"";position:absolute;inset:0;border-radius:14px}
.remark{font-size:13.5px;color:var(--soft);margin:8px 0 0}
.key{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:13.5px;color:var(--soft);margin-top:14px}
.key i{display:inline-block;width:18px;height:10px;border-radius:3px;margin-right:6px}
footer{color:var(--soft);font-size:13.5px;margin-top:36px}
"""
_MARK_NAMES = {"open": "excited", "shut": "suppressed", "noise": "noise"}
_MARK_COLOURS = {"open": "var(--open)", "shut": "var(--shut)", "noise": "var(--ink)"}


class GateTile(NamedTuple):
    """A render of a gate: its file, the gate's value on it, and the percentile of its logit among natural pictures."""

    file: str
    value: float
    percentile: float


def write_page(
    folder: Path, title: str, intro: Sequence[str], cards: Sequence[Card], footer: str = "", *, small: bool = False
) -> Path:
    """Write ``folder / "index.html"``; ``intro`` are paragraphs of HTML, all other arguments are plain text."""
    key = _KEY if any(card.quantiles for card in cards) else ""
    body = (
        f"<header><h1>{escape(title)}</h1>{''.join(f'<p>{p}</p>' for p in intro)}{key}</header>"
        f'<section class="cards{" small" if small else ""}">{"".join(map(_draw_card, cards))}</section>'
        f"<footer>{escape(footer)}</footer>"
    )
    return write_html(folder / "index.html", title, body)


def write_html(path: Path, title: str, body: str, style: str = "") -> Path:
    """Write a page around ``body``, which is HTML; ``style`` is CSS in addition to that of all pages."""
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}{style}</style>'
        f"<body><main>{body}</main></body></html>\n"
    )
    write_bytes(path, text.encode())
    return path


_KEY = (
    '<div class="key"><span><i style="background:var(--range)"></i>natural pictures, 99.8 %</span>'
    '<span><i style="background:var(--band)"></i>90 %, and their median</span>'
    '<span><i style="background:var(--ink);width:3px"></i>noise</span>'
    '<span><i style="background:var(--shut);border-radius:50%;width:10px"></i>suppressed</span>'
    '<span><i style="background:var(--open);border-radius:50%;width:10px"></i>excited</span></div>'
)


def _draw_card(card: Card) -> str:
    pictures = "".join(
        f'<figure><img src="{escape(p.file, quote=True)}" alt="{escape(f"{p.title} {card.title}".strip(), quote=True)}"'
        f' loading="lazy"><figcaption>{_draw_title(p)}{escape(p.figure)}</figcaption></figure>'
        for p in card.pictures
    )
    remark = f'<p class="remark">{escape(card.remark)}</p>' if card.remark else ""
    scale = _draw_range(card) if card.quantiles else ""
    title = f'<a href="{escape(card.href, quote=True)}">{escape(card.title)}</a>' if card.href else escape(card.title)
    return (
        f'<article><h2>{title}</h2><div class="sub">{escape(card.subtitle)}</div>'
        f'<div class="pair">{pictures}</div>{scale}{remark}</article>'
    )


def _draw_title(p: Picture) -> str:
    return f'<b class="{p.tone}">{escape(p.title)}</b>' if p.title else ""


def _draw_range(card: Card) -> str:
    """The gate's axis from 0 to 1: natural pictures as bars, renders and noise as marks."""

    def x(value: float) -> str:
        return f"{100 * min(max(value, 0.0), 1.0):.2f}%"

    def bar(low: float, high: float, colour: str) -> str:
        width = f"{100 * max(high - low, 0.004):.2f}%"
        return f'<rect x="{x(low)}" y="11" width="{width}" height="12" rx="3" fill="{colour}"/>'

    low, q5, middle, q95, high = card.quantiles
    marks = "".join(
        f'<line x1="{x(v)}" x2="{x(v)}" y1="7" y2="27" stroke="{_MARK_COLOURS[name]}" stroke-width="3"/>'
        if name == "noise"
        else f'<circle cx="{x(v)}" cy="17" r="6.5" fill="{_MARK_COLOURS[name]}" stroke="var(--card)" stroke-width="2"/>'
        for name, v in card.marks
    )
    values = ", ".join(f"{_MARK_NAMES[name]} {v:.2f}" for name, v in card.marks)
    return (
        f'<svg role="img" aria-label="gate value: natural {low:.2f} to {high:.2f}, {values}">'
        '<line x1="0" x2="100%" y1="17" y2="17" stroke="var(--line)" stroke-width="2"/>'
        + bar(low, high, "var(--range)")
        + bar(q5, q95, "var(--band)")
        + f'<line x1="{x(middle)}" x2="{x(middle)}" y1="11" y2="23" stroke="var(--card)" stroke-width="2"/>{marks}'
        '<text x="0" y="42">0 closed</text><text x="100%" y="42" text-anchor="end">open 1</text></svg>'
    )


def make_gate_card(
    title: str, subtitle: str, quantiles: tuple[float, ...], noise: float, excited: GateTile, suppressed: GateTile,
    remark: str = "", href: str = "",
) -> Card:  # fmt: skip
    """A gate with its two renders, its values on natural pictures (``quantiles``) and on ``noise``."""
    tiles = (("excited", excited, "open"), ("suppressed", suppressed, "shut"))
    pictures = [
        Picture(tile.file, f"{name} {tile.value:.2f}", describe_percentile(tile.percentile), tone)
        for name, tile, tone in tiles
    ]
    marks = [("noise", noise), ("shut", suppressed.value), ("open", excited.value)]
    return Card(title, subtitle, pictures, quantiles, marks, remark, href)


def describe_percentile(percentile: float) -> str:
    """A percentile among natural pictures in words.

    >>> describe_percentile(99.87), describe_percentile(100)
    ('percentile 99.9 of natural pictures', 'above every natural picture')
    """
    if percentile >= 100:
        return "above every natural picture"
    if percentile <= 0:
        return "below every natural picture"
    return f"percentile {format_percentile(percentile)} of natural pictures"


def format_percentile(percentile: float) -> str:
    """A percentile with one decimal; 0 and 100 are written only where no natural picture lies beyond."""
    return f"{min(max(percentile, 0.1), 99.9):.1f}" if 0 < percentile < 100 else f"{percentile:.0f}"


def describe_versions(versions: Mapping[str, str]) -> str:
    """Names and version numbers in one line."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
