"""Compares two results of one suite: ratios of the medians, and changes beyond the spread of the rounds."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.tables import format_number


def compare_results(old: dict[str, Any], new: dict[str, Any]) -> str:
    """One line a row: old and new median, new over old, and "slower" or "faster" if the quartiles do not overlap."""
    if old["suite"] != new["suite"]:
        raise ValueError(f"{old['suite']} and {new['suite']} are different suites; give two results of one")
    lines = [f"{old['suite']}: {_format_origin(old)} -> {_format_origin(new)}", *_find_differences(old, new)]
    for title, group in new["groups"].items():
        before = old["groups"].get(title, {}).get("rows", {})
        lines.append(f"{title}, {group['unit']}")
        lines += [f"  {label:40} {_format_change(before.get(label), row)}" for label, row in group["rows"].items()]
        lines += [f"  {label:40} is gone" for label in before if label not in group["rows"]]
    return "\n".join(lines)


def judge_change(old: dict[str, Any], new: dict[str, Any]) -> str:
    """``"slower"`` or ``"faster"`` if the ranges between the quartiles do not overlap, else ``""``."""
    (old_low, old_high), (new_low, new_high) = old["quartiles"], new["quartiles"]
    if old_high is not None and (new_low is None or new_low > old_high):
        return "slower"
    if new_high is not None and (old_low is None or new_high < old_low):
        return "faster"
    return ""


def _format_change(old: dict[str, Any] | None, new: dict[str, Any]) -> str:
    if old is None or "unsupported" in old:
        return new.get("unsupported", "is new")
    if "unsupported" in new:
        return f"was {format_number(old['median'])}, now: {new['unsupported']}"
    line = f"{format_number(old['median']):>8} -> {format_number(new['median']):>8}"
    if old["median"] and new["median"] is not None:
        line += f"  {new['median'] / old['median']:.3f}x"
    return f"{line}  {judge_change(old, new)}".rstrip()


def _format_origin(result: dict[str, Any]) -> str:
    measured = result["measured"]
    return f"{measured['date']} {measured['commit']}"


def _find_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line for each difference of machine, version or run that makes a comparison doubtful."""
    lines = []
    for name in ("cpu", "cores", "threads"):
        pair = [side["measured"]["machine"][name] for side in (old, new)]
        if pair[0] != pair[1]:
            lines.append(f"CAUTION: {name} was {pair[0]}, is {pair[1]}")
    for name in ("torch", "python"):
        pair = [side["measured"]["versions"][name] for side in (old, new)]
        if pair[0] != pair[1]:
            lines.append(f"CAUTION: {name} was {pair[0]}, is {pair[1]}")
    if old["settings"]["quick"] or new["settings"]["quick"]:
        lines.append("CAUTION: the figures of a quick run mean nothing")
    return lines
