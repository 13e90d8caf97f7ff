"""The step of featureviz by layer and batch, milliseconds per image."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import make_group
from benchmarks.harness.tables import tabulate
from benchmarks.harness.worker_process import measure_contenders
from benchmarks.harness.workload import LAYERS, select_units

BATCHES = (1, 4, 16)


def run(options: Options) -> dict[str, Any]:
    rounds, groups = options.choose_rounds(11), {}
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        tasks = {n: options.make_task(layer=layer, units=select_units(layer, n)) for n in BATCHES}
        entries = {_format_label(n): ("featureviz", task) for n, task in tasks.items()}
        times = measure_contenders(entries, options, rounds=rounds)
        groups[layer] = make_group(
            times, "ms per image-step", baseline=_format_label(1), task=describe_task(tasks[1])
        )  # fmt: skip
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    return tabulate(result, list(result["groups"]), corner="ms per image-step")


def _format_label(n: int) -> str:
    return f"{n} image{'s' if n > 1 else ''}"
