"""The tables of the studies (``benchmarks.studies``), from their stored results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

VIEWS = {"plain": "the plain image", "held-out": "held-out views"}


def tabulate_lucent_facts(result: dict[str, Any]) -> str:
    rows = [
        ("forward hooks left on the network after 3 renders", "hooks left after 3 renders"),
        ("weights left with a gradient", "weights with a gradient left"),
        ("calls of modules behind the target, in 4 steps", "modules run behind the layer, 4 steps"),
        ("share of a white image's view filled with something else", "share of a white image's view that is not white"),
    ]
    lines = ["| | Lucent | featureviz |", "|---|---|---|"]
    for label, key in rows:
        lucent, featureviz = (f"{100 * v:.0f} %" if "share" in key else str(v) for v in result[key])
        lines.append(f"| {label} | {lucent} | {featureviz} |")
    opened: dict[str, dict[str, str]] = {}
    for key, counts in result.items():
        if match := re.fullmatch(r"of 16 gates opened to 0.95, (.*), (.*), by seed", key):
            opened.setdefault(match[1], {})[match[2]] = ", ".join(map(str, counts))
    for views, by_tool in opened.items():
        lucent = f"{by_tool['Lucent on the value']} (value); {by_tool['Lucent on the logit']} (logit)"
        label = f"of 16 gates of the last block opened to 0.95 in 64 steps, measured on {VIEWS[views]}"
        lines.append(f"| {label} | {lucent} | {by_tool['featureviz']} |")
    return "\n".join(lines)


DRIVES = {"logit": "the logit", "value": "the value"}


def tabulate_gate_control(result: dict[str, Any], drives: Mapping[str, str] = DRIVES) -> str:
    """Sums over all blocks; and over blocks 11 to 15, where natural images move the gates far enough."""
    lines = [
        "| objective | beyond the natural range, 8 blocks | opened to 0.99, blocks 11 to 15"
        " | closed to 0.01, blocks 11 to 15 |",
        "|---|---|---|---|",
    ]
    blocks = result["blocks"]
    late = [entry for name, entry in blocks.items() if int(name.split(".")[1]) >= 11]
    for drive, name in drives.items():
        cells = [
            _format_share(blocks.values(), drive, "beyond", 2), _format_share(late, drive, "opened"),
            _format_share(late, drive, "shut"),
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_share(entries: Iterable[dict[str, Any]], drive: str, outcome: str, directions: int = 1) -> str:
    entries = list(entries)
    total = directions * sum(len(entry["units"]) for entry in entries)
    count = sum(entry[drive][outcome] for entry in entries)
    return f"{count} of {total} ({100 * count / total:.0f} %)"


def tabulate_gate_control_blocks(result: dict[str, Any]) -> str:
    lines = [
        "| block | gates that vary | sd of logit | beyond the natural range: logit, value |"
        " opened: logit, value; natural limit | closed: logit, value; natural limit |",
        "|---|---|---|---|---|---|",
    ]
    for name, block in result["blocks"].items():
        n, bound, logit, value = len(block["units"]), block["natural bounds"], block["logit"], block["value"]
        cells = [
            f"`{name}`", f"{block['gates'] - block['never move']} of {block['gates']}", bound["natural sd"],
            f"{logit['beyond']}, {value['beyond']} of {2 * n}",
            f"{logit['opened']}, {value['opened']}; {bound['hull opens']} of {n}",
            f"{logit['shut']}, {value['shut']}; {bound['hull shuts']} of {n}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def tabulate_quadrants(result: dict[str, Any]) -> str:
    quadrants = ("high, open", "high, shut", "low, open", "low, shut")
    lines = [f"| network | channels | all four reached | {' | '.join(quadrants)} |", "|---|---|---|---|---|---|---|"]
    for name in (key for key, value in result.items() if isinstance(value, dict) and "in all four" in value):
        model = result[name]
        count = model["channels"]
        cells = [str(count), f"{model['in all four']} ({100 * model['in all four'] / count:.0f} %)"]
        lines.append(f"| {name} | {' | '.join([*cells, *(str(model['reached'][q]) for q in quadrants)])} |")
    return "\n".join(lines)


def tabulate_discovery(result: dict[str, Any]) -> str:
    lines = ["| network | blocks | gates | kinds | found by | seconds |", "|---|---|---|---|---|---|"]
    for name, row in result["networks"].items():
        kinds, found_by = (", ".join(row[key]) or "-" for key in ("kinds", "found"))
        lines.append(f"| {name} | {row['blocks']} | {row['gates']:,} | {kinds} | {found_by} | {row['seconds']} |")
    return "\n".join(lines)
