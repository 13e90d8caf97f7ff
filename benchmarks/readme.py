"""Writes the README's tables from ``results/``, which hold what was measured: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS

README = Path(__file__).parents[1] / "README.md"


def filled(text: str) -> str:
    """``text`` with each ``<!-- NAME -->`` ... ``<!-- end -->`` holding the table of that result."""
    for name, table in (("lucent_facts", lucent_facts), ("gate_control", gate_control)):
        result = json.loads((RESULTS / f"{name}.json").read_text())
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
    lines = ["| climbed | opened to 0.99 | closed to 0.01 |", "|---|---|---|"]
    for what in ("logit", "value"):
        opened, closed = (result[f"{what}, {way}"] for way in ("excited", "suppressed"))
        lines.append(f"| the {what} | {opened['reached']} of {opened['of']} | {closed['reached']} of {closed['of']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
