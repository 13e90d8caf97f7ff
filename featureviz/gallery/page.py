"""HTML pages that open from disk: without a server, scripts or outside addresses, for light and dark, any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from featureviz.files import write_bytes
from featureviz.gallery.folder import PAGE


def write_page(path: Path, title: str, body: str, footer: str) -> Path:
    """Write a page around ``body``, which is HTML; title and footer are plain text."""
    style = Path(__file__).with_name("style.css").read_text()
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style>'
        f"<body><main>{body}<footer>{escape(footer)}</footer></main></body></html>\n"
    )
    write_bytes(path, text.encode(errors="backslashreplace"))  # a name may hold bytes that are not UTF-8
    return path


def write_gallery(
    folder: Path, title: str, intro: Sequence[str], cards: Sequence[str], footer: str, *, key: str = "",
    small: bool = False,
) -> Path:  # fmt: skip
    """Write the page of a gallery; ``intro``, ``cards`` and ``key``, which explains the plots, are HTML."""
    body = (
        f"<header><h1>{escape(title)}</h1>{''.join(f'<p>{p}</p>' for p in intro)}{key}</header>"
        f'<section class="cards{" small" if small else ""}">{"".join(cards)}</section>'
    )
    return write_page(folder / PAGE, title, body, footer)


def draw_card(title: str, subtitle: str, body: str, href: str = "") -> str:
    """A card of a gallery: title, subtitle, ``body`` as HTML, and a link to the card's own page if it has one."""
    heading = f'<a href="{escape(href)}">{escape(title)}</a>' if href else escape(title)
    return f'<article><h2>{heading}</h2><div class="sub">{escape(subtitle)}</div>{body}</article>'


def draw_figure(file: str, title: str, lines: Sequence[str], tone: str = "", *, alt: str = "") -> str:
    """A picture with lines of text below it; ``tone``, ``"open"`` or ``"shut"``, is the colour of the title."""
    head = f'<b class="{tone}">{escape(title)}</b>' if title else ""
    return (
        f'<figure><img src="{escape(file)}" alt="{escape(alt or f"{title}: {lines[0]}")}" loading="lazy">'
        f"<figcaption>{head}{'<br>'.join(map(escape, lines))}</figcaption></figure>"
    )


def describe_percentile(percentile: float) -> str:
    """A percentile among natural pictures in words.

    >>> describe_percentile(99.87), describe_percentile(100)
    ('percentile 99.9 of natural pictures', 'above every natural picture')
    """
    if 0 < percentile < 100:
        return f"percentile {format_percentile(percentile)} of natural pictures"
    return f"{'above' if percentile >= 100 else 'below'} every natural picture"


def format_percentile(percentile: float) -> str:
    """A percentile with one decimal; 0 and 100 are written only where no natural picture lies beyond."""
    return f"{min(max(percentile, 0.1), 99.9):.1f}" if 0 < percentile < 100 else f"{percentile:.0f}"


def describe_unseen(unseen: Mapping[str, float]) -> str:
    """Scores on kinds of views that no ascent uses, in words.

    >>> describe_unseen({"jpeg": 3.141, "blur": -0.5, "crop": 2})
    'as JPEG 3.14, blurred \N{MINUS SIGN}0.5, cropped 2'
    """
    names = {"jpeg": "as JPEG", "blur": "blurred", "crop": "cropped"}
    return ", ".join(f"{names[kind]} {score:.3g}" for kind, score in unseen.items()).replace("-", "\N{MINUS SIGN}")


def describe_distance(distance: float) -> str:
    """How far a picture is from natural ones, in words.

    >>> describe_distance(1.92)
    '1.9 times as unusual as photographs'
    """
    return f"{distance:.1f} times as unusual as photographs"


def describe_versions(versions: Mapping[str, str]) -> str:
    """Names and version numbers in one line."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
