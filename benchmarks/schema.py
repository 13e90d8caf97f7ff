"""What a result of a suite holds, field by field, and a check that it does.

A written list and no schema language: the check is as long as the list.
"""

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
    "suite": str,  # its name, and the file's
    "settings": {"quick": bool, "rounds": int},  # how often all sides took their turn
    "measured": {
        "date": str,  # UTC
        "commit": str,  # git describe
        "device": str,  # "cpu", or the GPU's name
        "machine": {"cpu": str, "cores": int, "threads": int, "memory GiB": NUMBER, "load before": LIST},
        "versions": {"featureviz": str, "torch": str, "torchvision": str, "python": str},  # and the peers'
    },
    "groups": dict,  # title -> GROUP
}
GROUP: dict[str, Any] = {
    "unit": str,  # of all values; lower is better
    "rows": dict,  # label -> ROW, or {"unsupported": reason}
}
GROUP_MAY: dict[str, Any] = {
    "baseline": str,  # the row that the others are divided by
    "task": dict,  # the workload, benchmarks.contenders.base.Task
    "facts": (dict, list),  # anything else that was seen
}
SPREAD: dict[str, Any] = {"median": (*NUMBER, type(None)), "quartiles": LIST}
ROW: dict[str, Any] = {"rounds": LIST, **SPREAD}  # raw, in order; null is what was never reached
ROW_MAY: dict[str, Any] = {"ratio": SPREAD}  # of paired rounds, to the baseline


def problems(result: Any) -> list[str]:
    """What is wrong with a result, a line each; none if it is as listed above."""
    found = _check(result, FIELDS, {}, "result", open_ended=False)
    if found:
        return found
    if result["schema"] != VERSION:
        found.append(f"schema: {result['schema']}, expected {VERSION}")
    if not result["groups"]:
        found.append("groups: empty")
    for title, group in result["groups"].items():
        found += _check(group, GROUP, GROUP_MAY, f"groups[{title!r}]", open_ended=False)
        for label, row in group.get("rows", {}).items() if isinstance(group, dict) else ():
            found += _row(row, f"groups[{title!r}].rows[{label!r}]")
        if (
            isinstance(group, dict)
            and group.get("baseline", next(iter(group.get("rows", {})), "")) not in group["rows"]
        ):
            found.append(f"groups[{title!r}].baseline: no such row")
    return found


def is_suite(path: Path) -> bool:
    """Whether a file of results is of this kind; earlier benchmarks have forms of their own."""
    return "suite" in json.loads(path.read_text())


def _row(row: Any, where: str) -> list[str]:
    if isinstance(row, dict) and "unsupported" in row:
        return _check(row, {"unsupported": str}, {}, where, open_ended=False)
    found = _check(row, ROW, ROW_MAY, where, open_ended=False)
    if not found and not row["rounds"]:
        found.append(f"{where}.rounds: empty")
    if not found and len(row["quartiles"]) != 2:
        found.append(f"{where}.quartiles: {len(row['quartiles'])} numbers, expected 2")
    return found


def _check(
    value: Any, must: Mapping[str, Any], may: Mapping[str, Any], where: str, *, open_ended: bool = True
) -> list[str]:
    """Fields missing, of the wrong kind, and, unless ``open_ended``, unknown."""
    if not isinstance(value, dict):
        return [f"{where}: {type(value).__name__}, expected an object"]
    found = [f"{where}.{key}: missing" for key in must if key not in value]
    for key, item in value.items():
        kind = must.get(key, may.get(key))
        if kind is None:
            found += [] if open_ended else [f"{where}.{key}: not in the schema"]
        elif isinstance(kind, Mapping):
            found += _check(item, kind, {}, f"{where}.{key}")
        elif not _is(item, kind):
            found.append(f"{where}.{key}: {item!r}, expected {_name(kind)}")
    return found


def _is(item: Any, kind: Any) -> bool:
    if kind == LIST:
        return isinstance(item, list) and all(v is None or _is(v, NUMBER) for v in item)
    kinds: Sequence[type] = kind if isinstance(kind, tuple) else (kind,)
    return isinstance(item, tuple(kinds)) and (not isinstance(item, bool) or bool in kinds)


def _name(kind: Any) -> str:
    return (
        kind
        if isinstance(kind, str)
        else " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else [kind]))
    )
