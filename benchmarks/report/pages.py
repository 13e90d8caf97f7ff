"""Fills the tables of README and docs from the stored results: ``python -m benchmarks tables``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RESULTS
from benchmarks.harness.tables import format_caption
from benchmarks.report import clarity_tables, study_tables
from benchmarks.suites import SUITES, load_suite, peers

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MakeTable = Callable[[dict[str, Any]], str]


def fill_tables(text: str) -> str:
    """``text`` with a new table in each block ``<!-- NAME -->`` ... ``<!-- end -->`` whose result is stored."""
    for name, (file, make_table) in TABLES.items():
        if f"<!-- {name} -->" in text and (RESULTS / f"{file}.json").is_file():
            result = json.loads((RESULTS / f"{file}.json").read_text())
            block = f"<!-- {name} -->\n{make_table(result)}\n<!-- end -->"
            text = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _match, block=block: block, text, flags=re.S)
    return text


def add_caption(make_table: MakeTable) -> MakeTable:
    """The table of a suite with a line below it: machine, date, commit."""
    return lambda result: f"{make_table(result)}\n\n{format_caption(result)}"


def fill_pages() -> None:
    """Write the tables into all pages."""
    for page in PAGES:
        page.write_text(fill_tables(page.read_text()))


TABLES: dict[str, tuple[str, MakeTable]] = {
    "lucent_facts": ("lucent_facts", study_tables.tabulate_lucent_facts),
    "gate_control": ("gate_control", study_tables.tabulate_gate_control),
    "gate_control_blocks": ("gate_control", study_tables.tabulate_gate_control_blocks),
    "gate_control_clear": ("gate_control_clear", clarity_tables.tabulate_gate_control_clear),
    "clarity": ("clarity", clarity_tables.tabulate_clarity),
    "clarity_planted": ("clarity", clarity_tables.tabulate_planted),
    "quadrants": ("quadrants", study_tables.tabulate_quadrants),
    "discovery": ("discovery", study_tables.tabulate_discovery),
    "peers_short": ("peers", add_caption(peers.make_short_table)),
} | {name: (name, add_caption(load_suite(name).make_table)) for name in SUITES}
