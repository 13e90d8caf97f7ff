"""Two results of one suite: ratios, and which of them lie beyond the spread of the rounds."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import number


def told(old: dict[str, Any], new: dict[str, Any]) -> str:
    """A line for each row of both: medians, new over old, and whether the quartiles lie apart."""
    if old["suite"] != new["suite"]:
        raise ValueError(f"{old['suite']} and {new['suite']} are different suites; give two results of one")
    lines = [f"{old['suite']}: {_where(old)} -> {_where(new)}", *_differences(old, new)]
    for title, group in new["groups"].items():
        before = old["groups"].get(title, {}).get("rows", {})
        lines.append(f"{title}, {group['unit']}")
        lines += [f"  {label:40} {_line(before.get(label), row)}" for label, row in group["rows"].items()]
        lines += [f"  {label:40} is gone" for label in before if label not in group["rows"]]
    return "\n".join(lines)


def verdict(old: dict[str, Any], new: dict[str, Any]) -> str:
    """``"slower"`` or ``"faster"`` if the middle halves of the rounds do not overlap, else nothing."""
    (old_low, old_high), (new_low, new_high) = old["quartiles"], new["quartiles"]
    if old_high is not None and (new_low is None or new_low > old_high):
        return "slower"
    if new_high is not None and (old_low is None or new_high < old_low):
        return "faster"
    return ""


def _line(old: dict[str, Any] | None, new: dict[str, Any]) -> str:
    if old is None or "unsupported" in old:
        return new.get("unsupported", "is new")
    if "unsupported" in new:
        return f"was {number(old['median'])}, now: {new['unsupported']}"
    line = f"{number(old['median']):>8} -> {number(new['median']):>8}"
    if old["median"] and new["median"] is not None:
        line += f"  {new['median'] / old['median']:.3f}x"
    return f"{line}  {verdict(old, new)}".rstrip()


def _where(result: dict[str, Any]) -> str:
    at = result["measured"]
    return f"{at['date']} {at['commit']}"


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes the two hard to compare."""
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
        lines.append("CAUTION: a quick run's figures are worth nothing")
    return lines
