"""Writes the tables of README and docs from what was measured, ``results/``: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from benchmarks.suites import SUITES, peers, suite
from benchmarks.tables import caption

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / page for page in ("README.md", "docs/laboratory.md", "docs/speed.md", "benchmarks/README.md"))


def filled(text: str) -> str:
    """``text`` with each ``<!-- NAME -->`` ... ``<!-- end -->`` holding the table of that result, if there is one."""
    for name, (file, table) in TABLES.items():
        if f"<!-- {name} -->" in text and (RESULTS / f"{file}.json").is_file():
            result = json.loads((RESULTS / f"{file}.json").read_text())
            block = f"<!-- {name} -->\n{table(result)}\n<!-- end -->"
            text = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _found, block=block: block, text, flags=re.S)
    return text


def lucent_facts(result: dict[str, Any]) -> str:
    rows = [
        ("forward hooks left on the network after 3 renders", "hooks left after 3 renders"),
        ("weights left with a gradient", "weights with a gradient left"),
        ("calls of modules behind the target, in 4 steps", "modules run behind the layer, 4 steps"),
        ("share of a white image's view filled with something else", "share of a white image's view that is not white"),
    ]
    lines = ["| | Lucent | featureviz |", "|---|---|---|"]
    for label, key in rows:
        theirs, ours = (f"{100 * v:.0f} %" if "share" in key else str(v) for v in result[key])
        lines.append(f"| {label} | {theirs} | {ours} |")
    sides: dict[str, dict[str, str]] = {}
    for key, counts in result.items():
        if found := re.fullmatch(r"of 16 gates opened to 0.95, (.*), (.*), by seed", key):
            sides.setdefault(found[1], {})[found[2]] = ", ".join(map(str, counts))
    for way, by in sides.items():
        theirs = f"{by['Lucent on the value']} (value); {by['Lucent on the logit']} (logit)"
        label = f"of 16 gates of the last block opened to 0.95 in 64 steps, judged on {_VIEWS[way]}"
        lines.append(f"| {label} | {theirs} | {by['featureviz']} |")
    return "\n".join(lines)


_VIEWS = {"plain": "the plain image", "held-out": "held-out views"}


def gate_control(result: dict[str, Any]) -> str:
    """Over all blocks, and over those whose gates nature moves far enough."""
    lines = [
        "| climbed | beyond nature, 8 blocks | opened to 0.99, blocks 11 to 15 | closed to 0.01, blocks 11 to 15 |",
        "|---|---|---|---|",
    ]
    blocks = result["blocks"]
    late = [entry for name, entry in blocks.items() if int(name.split(".")[1]) >= 11]
    for by in ("logit", "value"):
        cells = [_share(blocks.values(), by, "beyond", 2), _share(late, by, "opened"), _share(late, by, "shut")]
        lines.append(f"| the {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(entries: Iterable[dict[str, Any]], by: str, what: str, directions: int = 1) -> str:
    entries = list(entries)
    of = directions * sum(len(entry["units"]) for entry in entries)
    count = sum(entry[by][what] for entry in entries)
    return f"{count} of {of} ({100 * count / of:.0f} %)"


def gate_control_blocks(result: dict[str, Any]) -> str:
    lines = [
        "| block | gates that move | sd of logit | beyond nature: logit, value | opened: logit, value; nature |"
        " closed: logit, value; nature |",
        "|---|---|---|---|---|---|",
    ]
    for name, b in result["blocks"].items():
        of, bound = len(b["units"]), b["natural bounds"]
        cells = [
            f"`{name}`", f"{b['gates'] - b['never move']} of {b['gates']}", bound["natural sd"],
            f"{b['logit']['beyond']}, {b['value']['beyond']} of {2 * of}",
            f"{b['logit']['opened']}, {b['value']['opened']}; {bound['hull opens']} of {of}",
            f"{b['logit']['shut']}, {b['value']['shut']}; {bound['hull shuts']} of {of}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def quadrants(result: dict[str, Any]) -> str:
    ways = ("high, open", "high, shut", "low, open", "low, shut")
    lines = [f"| network | channels | in all four | {' | '.join(ways)} |", "|---|---|---|---|---|---|---|"]
    for model in (key for key, value in result.items() if isinstance(value, dict) and "in all four" in value):
        r = result[model]
        of = r["channels"]
        cells = [str(of), f"{r['in all four']} ({100 * r['in all four'] / of:.0f} %)"]
        lines.append(f"| {model} | {' | '.join([*cells, *(str(r['landed'][w]) for w in ways)])} |")
    return "\n".join(lines)


def discovery(result: dict[str, Any]) -> str:
    lines = ["| network | blocks | gates | kinds | found as | seconds |", "|---|---|---|---|---|---|"]
    for name, row in result["networks"].items():
        kinds, found = (", ".join(row[key]) or "-" for key in ("kinds", "found"))
        lines.append(f"| {name} | {row['blocks']} | {row['gates']:,} | {kinds} | {found} | {row['seconds']} |")
    return "\n".join(lines)


def measured(table: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """The table of a suite, under it where and when."""
    return lambda result: f"{table(result)}\n\n{caption(result)}"


def fill() -> None:
    """Write the tables into all pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "lucent_facts": ("lucent_facts", lucent_facts),
    "gate_control": ("gate_control", gate_control),
    "gate_control_blocks": ("gate_control", gate_control_blocks),
    "quadrants": ("quadrants", quadrants),
    "discovery": ("discovery", discovery),
    "peers_short": ("peers", measured(peers.short)),
} | {name: (name, measured(suite(name).table)) for name in SUITES}

if __name__ == "__main__":
    fill()
