"""Gate statistics in a line a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featureviz.lab.statistics.site_statistics import SiteStatistics


def row(name: str, site: SiteStatistics) -> dict[str, Any]:
    """One block in a dictionary: means over its gates, None for what is not known."""

    def mean(part: str) -> float | None:
        return float(site.parts[part].mean()) if part in site.parts else None

    closed, opened = mean("closed"), mean("opened")
    return {
        "block": name,
        "gates": site.value_mean.numel(),
        "mean": mean("value_mean"),
        "sd": mean("value_sd"),
        "closed": closed,
        "opened": opened,
        "saturated": None if closed is None or opened is None else closed + opened,
        "static_share": mean("static_share"),
        "effective_rank": mean("effective_rank"),
        "eta_squared": mean("eta_squared"),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The dictionaries of ``row`` as lines for the terminal, with a head; ``-`` for what is not known."""
    labelled = any(row["eta_squared"] is not None for row in rows)
    width = max(len("block"), *(len(row["block"]) for row in rows))
    head = f"{'block':{width}}  gates   mean     sd  saturated  static  eff. rank" + "   eta^2" * labelled
    return "\n".join([head, *(_line(row, width, labelled) for row in rows)])


def _line(row: Mapping[str, Any], width: int, labelled: bool) -> str:
    def cell(key: str, form: str, factor: float = 1.0, unit: str = "") -> str:
        size = int(form.split(".")[0]) + len(unit)
        return f"{'-':>{size}}" if row[key] is None else f"{factor * row[key]:{form}}{unit}"

    cells = [
        f"{row['block']:{width}}", f"{row['gates']:5}", cell("mean", "5.3f"), cell("sd", "5.3f"),
        cell("saturated", "7.1f", 100, " %"), cell("static_share", "4.0f", 100, " %"), cell("effective_rank", "9.1f"),
    ]  # fmt: skip
    return "  ".join([*cells, cell("eta_squared", "6.3f")] if labelled else cells)
