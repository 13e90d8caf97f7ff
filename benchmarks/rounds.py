"""Measuring in rounds: all sides one after the other, again and again, each round beginning with another one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

Seconds = list[float]


def orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Who works after whom in each round.

    >>> orders("ABC", 2)
    [['A', 'B', 'C'], ['B', 'C', 'A']]
    """
    turns = [i % len(names) for i in range(rounds)] if names else []
    return [[*names[turn:], *names[:turn]] for turn in turns]


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Seconds]:
    """``sides[name]()`` gives the seconds it took: ``{name: one a round}``."""
    taken: dict[str, Seconds] = {name: [] for name in sides}
    for order in orders(list(sides), rounds):
        for name in order:
            taken[name].append(sides[name]())
    return taken


def clock(step: Callable[[], object], steps: int = 1) -> float:
    """Seconds of ``steps`` steps; what the GPU was given is waited for before and within."""
    _wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@final
@dataclass(frozen=True)
class Spread:
    """Median and quartiles; what was never reached counts as infinite."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Quartiles interpolate linearly.

        >>> Spread.of([4.0, 1.0, 2.0, 3.0])
        Spread(median=2.5, low=1.75, high=3.25)
        """
        ordered = sorted(math.inf if v is None else v for v in values)
        return cls(*(_quantile(ordered, q) for q in (0.5, 0.25, 0.75)))

    def as_json(self) -> dict[str, Any]:
        return {"median": rounded(self.median), "quartiles": [rounded(self.low), rounded(self.high)]}


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def rounded(value: float | None) -> float | None:
    """Five significant digits; None for what is not finite, which JSON has no number for."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def ratios(values: Sequence[float | None], base: Sequence[float | None]) -> Seconds:
    """Round by round ``values / base``; None is infinite, and of two infinite ones the ratio is 1."""
    pairs = [(math.inf if v is None else v, math.inf if b is None else b) for v, b in zip(values, base, strict=True)]
    return [1.0 if v == b else v / b for v, b in pairs]


def group(
    rounds: Mapping[str, Sequence[float | None] | str],
    unit: str,
    *,
    baseline: str | None = None,
    task: Mapping[str, Any] | None = None,
    facts: Any = None,
) -> dict[str, Any]:
    """One table's worth of a result: lower is better; in the place of rounds, the reason why there are none.

    Args:
        rounds: by row, one value a round (or a unit of a layer, as ``unit`` says); None where it was never reached.
        unit: of the values.
        baseline: the row by which the others are divided, round by round.
        task: what was done.
        facts: whatever else was seen.
    """
    made: dict[str, Any] = {"unit": unit, "rows": {}}
    base = rounds.get(baseline) if baseline else None
    for name, values in rounds.items():
        if isinstance(values, str):
            made["rows"][name] = {"unsupported": values}
            continue
        row: dict[str, Any] = {"rounds": [rounded(v) for v in values], **Spread.of(values).as_json()}
        if base is not None and not isinstance(base, str):
            row["ratio"] = Spread.of(ratios(values, base)).as_json()
        made["rows"][name] = row
    if baseline:
        made["baseline"] = baseline
    return made | ({"task": dict(task)} if task else {}) | ({} if facts is None else {"facts": facts})
