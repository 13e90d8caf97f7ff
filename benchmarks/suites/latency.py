"""Seconds to the first picture in a fresh process: importing the tool, building its render, its first steps."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS, PACKAGES
from benchmarks.contenders.base import Unsupported
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import Seconds, make_group, rotate_orders
from benchmarks.harness.tables import format_spread, tabulate
from benchmarks.harness.worker_process import WorkerError, WorkerProcess, explain_absence
from benchmarks.harness.workload import select_units

LAYER = "features.13"
IMPORT, BUILD, FIRST, NEXT = "import", "build, the network included", "first step", "a later step"
FIRST_20 = "first 20 steps"  # they include compilation and redirected gradients


def measure_once(name: str, options: Options) -> dict[str, float]:
    """Seconds in one fresh process. All tools need torch, so it is imported before the clock starts."""
    with WorkerProcess(name, options) as worker:
        worker.import_module("torchvision")
        seconds = {IMPORT: worker.import_module(PACKAGES[name])} if name in PACKAGES else {}
        seconds[BUILD] = worker.build(options.make_task(layer=LAYER, units=select_units(LAYER, 1)))["seconds"]
        seconds[FIRST] = worker.run_steps(1)
        seconds[FIRST_20] = seconds[FIRST] + worker.run_steps(19)
        return seconds | {NEXT: worker.run_steps(1)}


def run(options: Options) -> dict[str, Any]:
    rounds = options.choose_rounds(5)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    absent: dict[str, str] = {}
    for order in rotate_orders(list(CONTENDERS), rounds):
        for name in (name for name in order if name not in absent):
            try:
                measured[name].append(measure_once(name, options))
            except (Unsupported, WorkerError) as error:
                absent[name] = explain_absence(name, error)
    groups = {}
    task = describe_task(options.make_task(layer=LAYER, units=(0,)))
    for title in (IMPORT, BUILD, FIRST, FIRST_20, NEXT):
        rows: dict[str, Seconds | str] = {
            name: absent[name] if name in absent else [seconds[title] for seconds in measured[name]]
            for name in CONTENDERS
            if name in absent or title in measured[name][0]
        }
        groups[title] = make_group(rows, "s", baseline="featureviz", task=task)
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    return tabulate(result, list(result["groups"]), format_spread, corner="seconds, 1 image")
