"""All tools on the standard workload, milliseconds per image-step.

8 channels of a layer at once, and 64 of ``features.13`` for the quickest that batch, as many as fit into memory side by
side. A tool that does one image at a time does the 8 one after the other; those that take minutes a round are measured
on ``features.13`` alone. Each takes its own standard transforms from 128 px images to the same 224 px network input.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS, CROWD, notes
from benchmarks.options import Options, told
from benchmarks.remote import race
from benchmarks.rounds import group
from benchmarks.tables import matrix, number
from benchmarks.workload import LAYERS, units

STANDARD, SLOW = "features.13", ("faccent", "horama")
STEPPING = tuple(name for name in CONTENDERS if name != "featureviz fast")  # whose step is the same


def run(options: Options) -> dict[str, Any]:
    rounds, groups = options.rounds(5), {}
    for count, names in ((8, STEPPING), (64, CROWD)):
        for layer in LAYERS[-2:-1] if options.quick else LAYERS:
            if count > 8 and (options.quick or layer != STANDARD):
                continue
            task = options.task(layer=layer, units=units(layer, count))
            entries = {name: (name, task) for name in names if layer == STANDARD or name not in SLOW}
            taken = race(entries, options, rounds=rounds, images=8 if options.quick else 16)
            groups[f"{layer}, {count} units"] = group(
                taken, "ms per image-step", baseline="featureviz", task=told(task),
                facts={name: notes(name) for name in entries},
            )  # fmt: skip
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    """Milliseconds per image-step, and how many times featureviz' that is; how each goes about it."""
    groups = result["groups"]
    figures = matrix(result, list(groups), corner="ms per image-step; times featureviz")
    told_most = max(groups.values(), key=lambda group: len(group["facts"]))
    ways = [f"- {name}: {way}" for name, way in told_most["facts"].items() if way]
    return "\n".join([figures, "", *ways])


def short(result: dict[str, Any]) -> str:
    """How many times featureviz' milliseconds each takes, no more."""
    return matrix(result, list(result["groups"]), _times, corner="times featureviz")


def _times(row: dict[str, Any]) -> str:
    return f"{number(row['ratio']['median'])}x"
