"""Peak resident memory per image of all tools, each measured in a fresh process."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.base import Unsupported
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import make_group
from benchmarks.harness.tables import format_number, format_spread
from benchmarks.harness.worker_process import WorkerError, WorkerProcess, explain_absence
from benchmarks.harness.workload import select_units

LAYER, BATCHES, STEPS = "features.13", (1, 8, 16), 3
LEFT_OUT = (
    "featureviz fast", "featureviz compiled",  # same as featureviz in so few steps: compilation starts at the 17th
    "lucent single",  # a user holds one image at a time, but this contender holds all to take turns in steps
)  # fmt: skip
MEASURED = tuple(name for name in CONTENDERS if name not in LEFT_OUT)


def fit_slope(counts: list[int], values: list[float]) -> float:
    """The least-squares slope: how much one more image adds.

    >>> fit_slope([1, 3], [10.0, 14.0])
    2.0
    """
    x, y = sum(counts) / len(counts), sum(values) / len(values)
    return sum((c - x) * (v - y) for c, v in zip(counts, values, strict=True)) / sum((c - x) ** 2 for c in counts)


def measure_peaks(name: str, counts: list[int], options: Options) -> list[float]:
    """Peak MiB for each number of images."""
    peaks = []
    for n in counts:
        with WorkerProcess(name, options) as worker:
            worker.build(options.make_task(layer=LAYER, units=select_units(LAYER, n)))
            worker.run_steps(STEPS)
            peaks.append(worker.read_memory()["peak"] / 2**20)
    return peaks


def run(options: Options) -> dict[str, Any]:
    rounds, counts = options.choose_rounds(3), list(BATCHES[:2] if options.quick else BATCHES)
    rows: dict[str, list[float | None] | str] = {}
    facts: dict[str, Any] = {"images": counts}
    for name in MEASURED:
        try:
            peaks = [measure_peaks(name, counts, options) for _ in range(rounds)]
        except (Unsupported, WorkerError) as error:
            rows[name] = explain_absence(name, error)
        else:
            rows[name] = [fit_slope(counts, values) for values in peaks]
            facts[name] = [round(min(values), 1) for values in zip(*peaks, strict=True)]
    task = describe_task(options.make_task(layer=LAYER))
    return {
        "settings": {"rounds": rounds},
        "groups": {"peak": make_group(rows, "MiB per image", baseline="featureviz", task=task, facts=facts)},
    }


def make_table(result: dict[str, Any]) -> str:
    """The slope, and the peak for each number of images; a peak includes the interpreter and torch."""
    peak = result["groups"]["peak"]
    counts = [f"peak MiB, {n} image{'s' if n > 1 else ''}" for n in peak["facts"]["images"]]
    lines = [f"| | MiB per image | {' | '.join(counts)} |", "|---" * (len(counts) + 2) + "|"]
    for name, row in peak["rows"].items():
        if "unsupported" in row:
            lines.append(f"| {name} | {row['unsupported']} | {' | '.join('' for _ in counts)} |")
        else:
            values = " | ".join(format_number(v) for v in peak["facts"][name])
            lines.append(f"| {name} | {format_spread(row)} | {values} |")
    return "\n".join(lines)
