"""Results as Markdown tables: each group is a column, each row of a group a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

FormatRow = Callable[[dict[str, Any]], str]


def format_number(value: float | None) -> str:
    """Three significant digits; None is a goal that was never reached.

    >>> format_number(0.01234), format_number(12.34), format_number(1234.5), format_number(None)
    ('0.0123', '12.3', '1,234', 'never')
    """
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def format_spread(row: dict[str, Any]) -> str:
    """Median and quartiles: ``12.3 (11.9-12.8)``."""
    low, high = row["quartiles"]
    return f"{format_number(row['median'])} ({format_number(low)}-{format_number(high)})"


def format_spread_and_ratio(row: dict[str, Any]) -> str:
    """Median, quartiles and the ratio to the baseline: ``12.3 (11.9-12.8), 1.07x``."""
    return format_spread(row) + (f", {format_number(row['ratio']['median'])}x" if "ratio" in row else "")


def tabulate(
    result: dict[str, Any],
    titles: Sequence[str],
    format_row: FormatRow = format_spread_and_ratio,
    *,
    corner: str = "",
) -> str:
    """A column for each of the groups ``titles``. A row without values shows its reason."""
    groups = [result["groups"][title] for title in titles]
    labels = list(dict.fromkeys(label for group in groups for label in group["rows"]))
    lines = [f"| {corner} | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for label in labels:
        cells = [_format_cell(group["rows"].get(label), format_row) for group in groups]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_cell(row: dict[str, Any] | None, format_row: FormatRow) -> str:
    if row is None:
        return "-"
    return row["unsupported"].splitlines()[0].replace("|", "/") if "unsupported" in row else format_row(row)


def format_caption(result: dict[str, Any]) -> str:
    """Machine, date, commit and version in one line."""
    measured = result["measured"]
    machine, versions = measured["machine"], measured["versions"]
    where = measured["device"] if measured["device"] != "cpu" else f"{machine['cpu']}, {machine['threads']} threads"
    quick = "Quick run: its figures mean nothing. " if result["settings"]["quick"] else ""
    return (
        f"{quick}{where}; {measured['date']}, commit {measured['commit']}, torch {versions['torch']}; medians of"
        f" {result['settings']['rounds']} rounds and their quartiles, load before {machine['load before'][0]}."
    )
