"""Seconds to the first picture: importing the tool, building its render, its first step; in fresh processes."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS, PACKAGES
from benchmarks.contenders.base import Unsupported
from benchmarks.options import Options, told
from benchmarks.remote import Remote, WorkerError, why
from benchmarks.rounds import Seconds, group, orders
from benchmarks.tables import matrix, spread
from benchmarks.workload import units

LAYER = "features.13"
IMPORT, BUILD, FIRST, NEXT = "import", "build, the network included", "first step", "a later step"
SOON = "first 20 steps"  # compiling and redirection are in them


def first(name: str, options: Options) -> dict[str, float]:
    """In one fresh process; torch, which all need, is imported before the clock runs."""
    with Remote(name, options) as worker:
        worker.load("torchvision")
        seconds = {IMPORT: worker.load(PACKAGES[name])} if name in PACKAGES else {}
        seconds[BUILD] = worker.build(options.task(layer=LAYER, units=units(LAYER, 1)))["seconds"]
        seconds[FIRST] = worker.steps(1)
        seconds[SOON] = seconds[FIRST] + worker.steps(19)
        return seconds | {NEXT: worker.steps(1)}


def run(options: Options) -> dict[str, Any]:
    rounds = options.rounds(5)
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    absent: dict[str, str] = {}
    for order in orders(list(CONTENDERS), rounds):
        for name in (name for name in order if name not in absent):
            try:
                seen[name].append(first(name, options))
            except (Unsupported, WorkerError) as error:
                absent[name] = why(name, error)
    groups = {}
    for what in (IMPORT, BUILD, FIRST, SOON, NEXT):
        rows: dict[str, Seconds | str] = {
            name: absent[name] if name in absent else [taken[what] for taken in seen[name]]
            for name in CONTENDERS
            if name in absent or what in seen[name][0]
        }
        groups[what] = group(rows, "s", baseline="featureviz", task=told(options.task(layer=LAYER, units=(0,))))
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    return matrix(result, list(result["groups"]), spread, corner="seconds, 1 image")
