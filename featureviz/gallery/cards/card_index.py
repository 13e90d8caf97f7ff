"""Gates as cards of a gallery, and the page that links all gate cards; drawn from their entries in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from featureviz.gallery.cards.plots import PlotAxis, draw_row
from featureviz.gallery.page import describe_percentile, draw_card, draw_figure, draw_gallery, write_page

INTRO = (
    "A squeeze-and-excitation gate looks at the whole picture and decides how much of one channel passes: 1 lets the"
    " channel through, 0 blocks it."
)
KEY = '<div class="key">' + "".join(
    f'<span><i style="background:var(--{tone})"{dot}></i>{text}</span>'
    for tone, dot, text in (
        ("range", "", "natural pictures, 99.8 %"), ("band", "", "90 %, and their median"),
        ("ink", " class=dot", "noise"), ("shut", " class=dot", "suppressed"), ("open", " class=dot", "excited"),
    )
) + "</div>"  # fmt: skip


def draw_gate(entry: Mapping[str, Any], subtitle: str, remark: str = "", href: str = "") -> str:
    """A gate with its two renders, and with its values on them, on noise and on natural pictures."""
    tones = {"suppressed": "shut", "excited": "open"}
    renders = [(name, tones[name], entry["renders"][name]) for name in ("excited", "suppressed")]
    figures = [
        draw_figure(r["file"], f"{name} {r['value']:.2f}", [describe_percentile(r["percentile"])], tone)
        for name, tone, r in renders
    ]
    marks = [(entry["noise"]["value"], "ink"), *((r["value"], tone) for _, tone, r in reversed(renders))]
    return draw_card(
        entry["spec"], subtitle,
        f'<div class="pair">{"".join(figures)}</div>'
        f"{draw_row(PlotAxis(0, 1), entry['natural']['quantile values'].values(), marks)}"
        '<div class="axes"><span>0 closed</span><span>open 1</span></div>'
        + (f'<p class="remark">{escape(remark)}</p>' if remark else ""),
        href,
    )  # fmt: skip


def write_index(folder: Path, run: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], footer: str) -> Path:
    """Write ``index.html``: the finished gates, each with its two renders and a link to its page."""
    skipped = [s["file"] for s in run["skipped"]]
    intro = [
        f"{INTRO} This page shows what excites and what suppresses gates of <strong>{escape(run['model'])}</strong>,"
        f" compared with {run['natural images']:,} natural pictures. Each gate has a card of its own.",
    ]
    if len(entries) < run["planned"]:
        intro.append(f"<strong>{len(entries)} of {run['planned']} gates are done;</strong> the others are missing.")
    if skipped:
        names = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        files = (
            "1 file could not be read and was"
            if len(skipped) == 1
            else f"{len(skipped)} files could not be read and were"
        )
        intro.append(f"{files} left out: {escape(names)}.")
    cards = []
    for e in entries:
        natural, goals = e["natural"], [r["reached"] for r in e["renders"].values() if "reached" in r]
        cards.append(draw_gate(
            e, f"natural pictures {natural['value mean']:.2f} ± {natural['value sd']:.2f}",
            f"{sum(all(goal.values()) for goal in goals)} of 4 combinations of channel and gate reached.", e["page"],
        ))  # fmt: skip
    return write_page(folder / "index.html", "Gate cards", draw_gallery("Gate cards", intro, cards, key=KEY), footer)
