"""Results as tables in Markdown: groups as columns, rows as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Cell = Callable[[dict[str, Any]], str]


def number(value: float | None) -> str:
    """Three digits, as one would say it.

    >>> number(0.01234), number(12.34), number(1234.5), number(None)
    ('0.0123', '12.3', '1,234', 'never')
    """
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def spread(row: dict[str, Any]) -> str:
    """Median and quartiles: ``12.3 (11.9-12.8)``."""
    low, high = row["quartiles"]
    return f"{number(row['median'])} ({number(low)}-{number(high)})"


def with_ratio(row: dict[str, Any]) -> str:
    """The same with how many times the baseline that is."""
    return spread(row) + (f", {number(row['ratio']['median'])}x" if "ratio" in row else "")


def ratio(row: dict[str, Any]) -> str:
    """The ratio of paired rounds to the baseline, and its quartiles."""
    return f"{spread(row['ratio'])}" if "ratio" in row else ""


def matrix(result: dict[str, Any], titles: Sequence[str], cell: Cell = with_ratio, *, corner: str = "") -> str:
    """A column for each of those groups, headed by its title; a reason where there is no figure."""
    groups = [result["groups"][title] for title in titles]
    labels = list(dict.fromkeys(label for group in groups for label in group["rows"]))
    lines = [f"| {corner} | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for label in labels:
        cells = [_cell(group["rows"].get(label), cell) for group in groups]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, cell: Cell) -> str:
    if row is None:
        return "-"
    return row["unsupported"].splitlines()[0].replace("|", "/") if "unsupported" in row else cell(row)


def caption(result: dict[str, Any]) -> str:
    """Where, when and on what, in a line."""
    at = result["measured"]
    machine, versions = at["machine"], at["versions"]
    where = at["device"] if at["device"] != "cpu" else f"{machine['cpu']}, {machine['threads']} threads"
    quick = "Quick run, its figures are worth nothing. " if result["settings"]["quick"] else ""
    return (
        f"{quick}{where}; {at['date']}, commit {at['commit']}, torch {versions['torch']}; medians of"
        f" {result['settings']['rounds']} rounds and their quartiles, load before {machine['load before'][0]}."
    )
