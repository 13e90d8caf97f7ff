"""How long a plan takes, measured by a few steps of a few batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.planning.plan import Plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.network.model import TappedModel, tapped
from featureviz.rendering.shards import Devices, copy_to_devices

MEASURED = 5  # batches; the others are between them


@final
@dataclass(frozen=True)
class Estimate:
    """The seconds that a plan takes on this machine, and the bytes of its tiles."""

    tiles: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        hours, minutes = divmod(round(self.seconds / 60), 60)
        last = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{self.seconds:.0f} s"
        return f"{self.tiles:,} tiles, about {last} and {self.bytes / 1e6:,.0f} MB"


def estimate(plan: Plan, model: TappedModel, *, device: Devices = None) -> Estimate:
    """Render a few steps of at most five batches, from the first layer to the last, and extend them to the plan.

    A batch takes a + b steps seconds. Both are measured, by a render of few steps and one of more; the batches between
    those that are measured get values between theirs. Nothing is written.
    """
    model, batches = tapped(model), plan.batches()
    if not batches:
        return Estimate(0, 0.0, 0)
    options: dict[str, Any] = {**plan.recipe.options, "device": device}
    on_cpu = copy_to_devices(model, device)[0].device.type == "cpu"
    # From 32 steps on a GPU replays a recorded step, which is quicker. With fewer steps noise would hide their time.
    few, more = (2, min(16, max(6, options["steps"] // 8))) if on_cpu else (32, 64)
    chosen = sorted({round(i) for i in np.linspace(0, len(batches) - 1, MEASURED)})
    seconds, sizes = zip(*(_measure(model, batches[i], options, few, more) for i in chosen), strict=True)
    of_tile = np.interp(range(len(batches)), chosen, seconds)
    lengths = [len(tiles) for tiles in batches]
    return Estimate(len(plan), float(np.dot(of_tile, lengths)), round(float(np.mean(sizes)) * len(plan)))


def _measure(
    model: TappedModel, tiles: Sequence[Tile], options: dict[str, Any], few: int, more: int
) -> tuple[float, float]:
    """Seconds and bytes of a tile, if it is rendered with its batch."""
    planned = options["steps"]

    def take(steps: int) -> tuple[float, list[Made]]:
        started = time.perf_counter()
        made = render_batch(model, tiles, options | {"steps": steps})
        return time.perf_counter() - started, made

    take(min(1, planned))  # what only the first render of a layer does
    seconds, made = take(min(few, planned))
    if planned > few:
        longer, made = take(more)
        seconds += max(0.0, longer - seconds) * (planned - few) / (more - few)
    return seconds / len(tiles), sum(len(tile.png) for tile in made) / len(made)
