"""The page that links all gate cards, drawn from the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from featureviz.gallery.cards.card_page import CORNERS
from featureviz.gallery.page import GATE_INTRO, Card, GateTile, describe_versions, make_gate_card, write_page


def write_index(folder: Path, run: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``index.html``: the finished gates, each with its two renders and a link to its page."""
    done, planned, skipped = len(entries), run["planned"], run["skipped"]
    gates = "1 gate" if done == 1 else f"{done} gates"
    intro = [
        f"{GATE_INTRO} This page shows what excites and what suppresses {gates} of <strong>{escape(run['model'])}"
        f"</strong>, compared with {run['natural images']:,} natural pictures. Each gate has a card of its own.",
    ]
    if done < planned:
        intro.append(f"<strong>{done} of {planned} gates are done;</strong> the others are missing.")
    if skipped:
        names = ", ".join(escape(s["file"]) for s in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        files, were = ("1 file", "was") if len(skipped) == 1 else (f"{len(skipped)} files", "were")
        intro.append(f"{files} could not be read and {were} left out: {names}.")
    return write_page(folder, "Gate cards", intro, [_make_thumbnail(e) for e in entries], describe_run(run))


def _make_thumbnail(e: Mapping[str, Any]) -> Card:
    n, renders = e["natural"], e["renders"]
    excited, suppressed = (
        GateTile(*(renders[name][key] for key in ("file", "value", "percentile"))) for name in ("excited", "suppressed")
    )
    reached = sum(all(renders[kind]["reached"].values()) for kind in CORNERS)
    return make_gate_card(
        e["spec"], f"natural pictures {n['value mean']:.2f} ± {n['value sd']:.2f}",
        tuple(n["quantile values"].values()), e["noise"]["value"], excited, suppressed,
        f"{reached} of 4 combinations of channel and gate reached.", e["page"],
    )  # fmt: skip


def describe_run(run: Mapping[str, Any]) -> str:
    """How the pages were made, in a line."""
    how = f"{run['steps']} steps, {run['size']} px, seed {run['seed']}. All figures are in report.json."
    return f"{describe_versions(run['versions'])}; {how}"
