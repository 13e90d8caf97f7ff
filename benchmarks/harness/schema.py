"""The fields of a suite's result, and a check that a result has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VERSION = 1
NUMBER = (int, float)
LIST = "list of numbers"

FIELDS: dict[str, Any] = {
    "schema": int,  # VERSION
    "suite": str,  # its name, and the name of the file
    "settings": {"quick": bool, "rounds": int},  # rounds: how often each side was measured
    "measured": {
        "date": str,  # UTC
        "commit": str,  # git describe
        "device": str,  # "cpu", or the name of the GPU
        "machine": {"cpu": str, "cores": int, "threads": int, "memory GiB": NUMBER, "load before": LIST},
        "versions": {"featureviz": str, "torch": str, "torchvision": str, "python": str},  # and those of the peers
    },
    "groups": dict,  # title -> GROUP
}
GROUP: dict[str, Any] = {
    "unit": str,  # of all values; lower is better
    "rows": dict,  # label -> ROW, or {"unsupported": reason}
}
GROUP_MAY: dict[str, Any] = {
    "baseline": str,  # the row that divides the others
    "task": dict,  # the workload, benchmarks.contenders.base.Task
    "facts": (dict, list),  # other observations
}
SPREAD: dict[str, Any] = {"median": (*NUMBER, type(None)), "quartiles": LIST}
ROW: dict[str, Any] = {"rounds": LIST, **SPREAD}  # rounds: raw values in order; null is a goal never reached
ROW_MAY: dict[str, Any] = {"ratio": SPREAD}  # of paired rounds, to the baseline


def find_problems(result: Any) -> list[str]:
    """What is wrong with a result, one line each; empty for a valid result."""
    problems = _check_fields(result, FIELDS, {}, "result", open_ended=False)
    if problems:
        return problems
    if result["schema"] != VERSION:
        problems.append(f"schema: {result['schema']}, expected {VERSION}")
    if not result["groups"]:
        problems.append("groups: empty")
    for title, group in result["groups"].items():
        problems += _check_group(group, f"groups[{title!r}]")
    return problems


def is_suite(path: Path) -> bool:
    """Whether a file holds the result of a suite; the results of studies have other fields."""
    return "suite" in json.loads(path.read_text())


def _check_group(group: Any, where: str) -> list[str]:
    problems = _check_fields(group, GROUP, GROUP_MAY, where, open_ended=False)
    if not isinstance(group, dict):
        return problems
    rows = group.get("rows", {})
    for label, row in rows.items():
        problems += _check_row(row, f"{where}.rows[{label!r}]")
    if group.get("baseline", next(iter(rows), "")) not in rows:
        problems.append(f"{where}.baseline: no such row")
    return problems


def _check_row(row: Any, where: str) -> list[str]:
    if isinstance(row, dict) and "unsupported" in row:
        return _check_fields(row, {"unsupported": str}, {}, where, open_ended=False)
    problems = _check_fields(row, ROW, ROW_MAY, where, open_ended=False)
    if not problems and not row["rounds"]:
        problems.append(f"{where}.rounds: empty")
    if not problems and len(row["quartiles"]) != 2:
        problems.append(f"{where}.quartiles: {len(row['quartiles'])} numbers, expected 2")
    return problems


def _check_fields(
    value: Any, must: Mapping[str, Any], may: Mapping[str, Any], where: str, *, open_ended: bool = True
) -> list[str]:
    """Missing fields and fields of the wrong kind. Unknown fields are allowed only if ``open_ended``."""
    if not isinstance(value, dict):
        return [f"{where}: {type(value).__name__}, expected an object"]
    problems = [f"{where}.{key}: missing" for key in must if key not in value]
    for key, item in value.items():
        kind = must.get(key, may.get(key))
        if kind is None:
            problems += [] if open_ended else [f"{where}.{key}: not in the schema"]
        elif isinstance(kind, Mapping):
            problems += _check_fields(item, kind, {}, f"{where}.{key}")
        elif not _has_kind(item, kind):
            problems.append(f"{where}.{key}: {item!r}, expected {_format_kind(kind)}")
    return problems


def _has_kind(item: Any, kind: Any) -> bool:
    if kind == LIST:
        return isinstance(item, list) and all(v is None or _has_kind(v, NUMBER) for v in item)
    kinds: Sequence[type] = kind if isinstance(kind, tuple) else (kind,)
    return isinstance(item, tuple(kinds)) and (not isinstance(item, bool) or bool in kinds)


def _format_kind(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    return " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else [kind]))
