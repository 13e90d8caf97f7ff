"""Peak resident memory per image, all tools, each measurement in a fresh process."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.base import Unsupported
from benchmarks.options import Options, told
from benchmarks.remote import Remote, WorkerError, why
from benchmarks.rounds import group
from benchmarks.tables import number, spread
from benchmarks.workload import units

LAYER, BATCHES, STEPS = "features.13", (1, 8, 16), 3
LEFT_OUT = (
    "featureviz fast", "featureviz compiled",  # as featureviz in so few steps: nothing is compiled before the 17th
    "lucent single",  # needs what one image needs; its contender holds all of them, to take turns in steps
)  # fmt: skip
MEASURED = tuple(name for name in CONTENDERS if name not in LEFT_OUT)


def slope(counts: list[int], values: list[float]) -> float:
    """Least squares: how much more for one more.

    >>> slope([1, 3], [10.0, 14.0])
    2.0
    """
    x, y = sum(counts) / len(counts), sum(values) / len(values)
    return sum((c - x) * (v - y) for c, v in zip(counts, values, strict=True)) / sum((c - x) ** 2 for c in counts)


def peaks(name: str, counts: list[int], options: Options) -> list[float]:
    """MiB at each number of images."""
    found = []
    for n in counts:
        with Remote(name, options) as worker:
            worker.build(options.task(layer=LAYER, units=units(LAYER, n)))
            worker.steps(STEPS)
            found.append(worker.memory()["peak"] / 2**20)
    return found


def run(options: Options) -> dict[str, Any]:
    rounds, counts = options.rounds(3), list(BATCHES[:2] if options.quick else BATCHES)
    rows: dict[str, list[float | None] | str] = {}
    facts: dict[str, Any] = {"images": counts}
    for name in MEASURED:
        try:
            seen = [peaks(name, counts, options) for _ in range(rounds)]
        except (Unsupported, WorkerError) as error:
            rows[name] = why(name, error)
        else:
            rows[name] = [slope(counts, values) for values in seen]
            facts[name] = [round(min(values), 1) for values in zip(*seen, strict=True)]
    task = told(options.task(layer=LAYER))
    return {
        "settings": {"rounds": rounds},
        "groups": {"peak": group(rows, "MiB per image", baseline="featureviz", task=task, facts=facts)},
    }


def table(result: dict[str, Any]) -> str:
    """The slope, and the peak itself at each number of images, the interpreter and torch included."""
    peak = result["groups"]["peak"]
    counts = [f"peak MiB, {n} image{'s' if n > 1 else ''}" for n in peak["facts"]["images"]]
    lines = [f"| | MiB per image | {' | '.join(counts)} |", "|---" * (len(counts) + 2) + "|"]
    for name, row in peak["rows"].items():
        if "unsupported" in row:
            lines.append(f"| {name} | {row['unsupported']} | {' | '.join('' for _ in counts)} |")
        else:
            lines.append(f"| {name} | {spread(row)} | {' | '.join(number(v) for v in peak['facts'][name])} |")
    return "\n".join(lines)
