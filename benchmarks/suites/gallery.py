"""A gallery on disk of every channel of a layer of the embedded network, milliseconds per image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

import featureviz as fv
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Seconds, interleave, make_group
from benchmarks.harness.tables import format_number, format_spread
from featureviz.gallery import render_specs

LAYER, STEPS, SIZE, BATCH = "features.6", 128, 128, 16


def list_presets(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` by name, all with plain views: two at equal steps, and the fast preset with its own."""
    return {
        "featureviz": fv.plain(steps),
        "featureviz fast": fv.plain() | fv.fast(steps),
        "featureviz fast, its own steps": fv.plain() | fv.fast(),
    }


def time_gallery(model: fv.TappedModel, channels: int, preset: dict[str, Any]) -> Callable[[], float]:
    """A function that makes a gallery of ``channels`` (images, scores, tiles, sheet, page): milliseconds per image."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            specs = [f"{LAYER}:{unit}" for unit in range(channels)]
            render_specs(model, specs, folder, batch=BATCH, size=SIZE, progress=False, **preset)
            return 1000 * (time.perf_counter() - start) / channels

    return measure


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    rounds, steps = options.choose_rounds(3), 4 if options.quick else STEPS
    model = fv.load("embedded").on(options.device)
    width = next(layer.shape for layer in fv.layers(model) if layer.name == LAYER)[1]
    channels = 4 if options.quick else width
    sides = {name: time_gallery(model, channels, preset) for name, preset in list_presets(steps).items()}
    sides["featureviz"]()  # the first gallery also learns the layers' shapes
    times: dict[str, Seconds | str] = {**interleave(sides, rounds)}
    task = {"model": "embedded", "layer": LAYER, "channels": channels, "steps": steps, "size": SIZE, "batch": BATCH}
    groups = {"gallery": make_group(times, "ms per image", baseline="featureviz", task=task)}
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    group = result["groups"]["gallery"]
    task = group["task"]
    lines = [
        f"| {task['channels']} channels, {task['steps']} steps | ms per image | images per second |",
        "|---|---|---|",
    ]
    for name, row in group["rows"].items():
        unsupported = [row["unsupported"], ""] if "unsupported" in row else None
        cells = unsupported or [format_spread(row), format_number(1000 / row["median"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
