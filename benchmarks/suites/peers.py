"""All tools on the standard workload, milliseconds per image-step.

8 channels of a layer at once. The fastest tools in a batch also render 64 channels of ``features.13``; more tools do
not fit into memory side by side. A tool that renders one image at a time renders the 8 one after the other. Tools that
take minutes a round are measured on ``features.13`` alone. Each tool uses its own standard transforms, on 128 px images
and the same 224 px network input.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import BATCHED, CONTENDERS, read_notes
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import make_group
from benchmarks.harness.tables import format_number, tabulate
from benchmarks.harness.worker_process import measure_contenders
from benchmarks.harness.workload import LAYERS, select_units

STANDARD, SLOW = "features.13", ("faccent", "horama")
MEASURED = tuple(name for name in CONTENDERS if name != "featureviz fast")  # its step is that of featureviz


def run(options: Options) -> dict[str, Any]:
    rounds, groups = options.choose_rounds(5), {}
    for count, names in ((8, MEASURED), (64, BATCHED)):
        for layer in LAYERS[-2:-1] if options.quick else LAYERS:
            if count > 8 and (options.quick or layer != STANDARD):
                continue
            task = options.make_task(layer=layer, units=select_units(layer, count))
            entries = {name: (name, task) for name in names if layer == STANDARD or name not in SLOW}
            times = measure_contenders(entries, options, rounds=rounds, images=8 if options.quick else 16)
            groups[f"{layer}, {count} units"] = make_group(
                times, "ms per image-step", baseline="featureviz", task=describe_task(task),
                facts={name: read_notes(name) for name in entries},
            )  # fmt: skip
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    """Milliseconds per image-step and the ratio to featureviz; below it how each tool works."""
    groups = result["groups"]
    table = tabulate(result, list(groups), corner="ms per image-step; times featureviz")
    largest = max(groups.values(), key=lambda group: len(group["facts"]))
    notes = [f"- {name}: {note}" for name, note in largest["facts"].items() if note]
    return "\n".join([table, "", *notes])


def make_short_table(result: dict[str, Any]) -> str:
    """Only the ratios to featureviz."""
    return tabulate(result, list(result["groups"]), _format_ratio, corner="times featureviz")


def _format_ratio(row: dict[str, Any]) -> str:
    return f"{format_number(row['ratio']['median'])}x"
