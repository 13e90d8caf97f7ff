"""Measures in rounds: every round measures all sides one after the other and begins with another side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

Seconds = list[float]


def rotate_orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """The order of the sides in each round.

    >>> rotate_orders("ABC", 2)
    [['A', 'B', 'C'], ['B', 'C', 'A']]
    """
    turns = [i % len(names) for i in range(rounds)] if names else []
    return [[*names[turn:], *names[:turn]] for turn in turns]


def interleave(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Seconds]:
    """Call every ``sides[name]()``, which returns its time, once a round: ``{name: one time a round}``."""
    times: dict[str, Seconds] = {name: [] for name in sides}
    for order in rotate_orders(list(sides), rounds):
        for name in order:
            times[name].append(sides[name]())
    return times


def time_steps(step: Callable[[], object], steps: int = 1) -> float:
    """Seconds of ``steps`` calls; a GPU is synchronised before the clock starts and before it stops."""
    _synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@final
@dataclass(frozen=True)
class Spread:
    """Median and quartiles; a goal that was never reached counts as infinite."""

    median: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float | None]) -> Spread:
        """Quartiles are interpolated linearly.

        >>> Spread.from_values([4.0, 1.0, 2.0, 3.0])
        Spread(median=2.5, low=1.75, high=3.25)
        """
        ordered = sorted(math.inf if v is None else v for v in values)
        return cls(*(_interpolate_quantile(ordered, q) for q in (0.5, 0.25, 0.75)))

    def to_json(self) -> dict[str, Any]:
        return {"median": round_value(self.median), "quartiles": [round_value(self.low), round_value(self.high)]}


def _interpolate_quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def round_value(value: float | None) -> float | None:
    """Five significant digits; None for infinities and NaN, which JSON cannot store."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def compute_ratios(values: Sequence[float | None], base: Sequence[float | None]) -> Seconds:
    """``values / base`` round by round; None counts as infinite, and infinite over infinite is 1."""
    pairs = [(math.inf if v is None else v, math.inf if b is None else b) for v, b in zip(values, base, strict=True)]
    return [1.0 if v == b else v / b for v, b in pairs]


def make_group(
    rounds: Mapping[str, Sequence[float | None] | str],
    unit: str,
    *,
    baseline: str | None = None,
    task: Mapping[str, Any] | None = None,
    facts: Any = None,
) -> dict[str, Any]:
    """The part of a result that one table shows; lower values are better.

    Args:
        rounds: for each row one value a round (or one value a unit of a layer, as ``unit`` says). None is a goal that
            was never reached. A text instead of values is the reason why there are none.
        unit: of the values.
        baseline: the row that divides the others, round by round.
        task: the workload.
        facts: other observations.
    """
    group: dict[str, Any] = {"unit": unit, "rows": {}}
    base = rounds.get(baseline) if baseline else None
    for name, values in rounds.items():
        if isinstance(values, str):
            group["rows"][name] = {"unsupported": values}
            continue
        row: dict[str, Any] = {"rounds": [round_value(v) for v in values], **Spread.from_values(values).to_json()}
        if base is not None and not isinstance(base, str):
            row["ratio"] = Spread.from_values(compute_ratios(values, base)).to_json()
        group["rows"][name] = row
    if baseline:
        group["baseline"] = baseline
    return group | ({"task": dict(task)} if task else {}) | ({} if facts is None else {"facts": facts})
