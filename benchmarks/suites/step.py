"""featureviz' step by layer and batch, milliseconds per image."""

from __future__ import annotations

from typing import Any

from benchmarks.options import Options, told
from benchmarks.remote import race
from benchmarks.rounds import group
from benchmarks.tables import matrix
from benchmarks.workload import LAYERS, units

BATCHES = (1, 4, 16)


def run(options: Options) -> dict[str, Any]:
    rounds, groups = options.rounds(11), {}
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        tasks = {n: options.task(layer=layer, units=units(layer, n)) for n in BATCHES}
        taken = race({_label(n): ("featureviz", task) for n, task in tasks.items()}, options, rounds=rounds)
        groups[layer] = group(taken, "ms per image-step", baseline=_label(1), task=told(tasks[1]))
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    return matrix(result, list(result["groups"]), corner="ms per image-step")


def _label(n: int) -> str:
    return f"{n} image{'s' if n > 1 else ''}"
