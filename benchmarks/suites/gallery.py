"""Every channel of a layer of the embedded network as a gallery on disk, milliseconds per image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

import featureviz as fv
from benchmarks.options import Options
from benchmarks.rounds import Seconds, group, interleaved
from benchmarks.tables import number, spread
from featureviz.gallery import render_specs

LAYER, STEPS, SIZE, BATCH = "features.6", 128, 128, 16


def presets(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` by name: at equal steps, and the preset with its own."""
    plain = {"steps": steps}
    return {"featureviz": plain, "featureviz fast": fv.fast(steps), "featureviz fast, its own steps": fv.fast()}


def whole(model: fv.TappedModel, channels: int, preset: dict[str, Any]) -> Callable[[], float]:
    """Milliseconds per image of a gallery of so many channels: rendering, judging, tiles, sheet and page."""

    def side() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            specs = [f"{LAYER}:{unit}" for unit in range(channels)]
            render_specs(model, specs, folder, batch=BATCH, size=SIZE, progress=False, **preset)
            return 1000 * (time.perf_counter() - started) / channels

    return side


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    rounds, steps = options.rounds(3), 4 if options.quick else STEPS
    model = fv.load("embedded").on(options.device)
    width = next(layer.shape for layer in fv.layers(model) if layer.name == LAYER)[1]
    channels = 4 if options.quick else width
    sides = {name: whole(model, channels, preset) for name, preset in presets(steps).items()}
    sides["featureviz"]()  # learns the layers' shapes
    taken: dict[str, Seconds | str] = {**interleaved(sides, rounds)}
    task = {"model": "embedded", "layer": LAYER, "channels": channels, "steps": steps, "size": SIZE, "batch": BATCH}
    groups = {"gallery": group(taken, "ms per image", baseline="featureviz", task=task)}
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    made = result["groups"]["gallery"]
    of = made["task"]
    lines = [f"| {of['channels']} channels, {of['steps']} steps | ms per image | images per second |", "|---|---|---|"]
    for name, row in made["rows"].items():
        cells = [row["unsupported"], ""] if "unsupported" in row else [spread(row), number(1000 / row["median"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
