"""What 100,000 tiles cost on GPUs, computed from the stored results of ``gallery_cost`` and of the suite ``gpu``.

    python -m benchmarks.studies.gallery_scale

A tile takes STEPS captured image-steps of a GPU, its share of the recording of its batch (RECORDING eager steps),
HELD_OUT image-steps for the scores on views that no ascent has used, and then the time of its PNG. Batches go to the
GPUs in rounds. Meanwhile one process, the driver, receives and stores all tiles.
"""

from __future__ import annotations

import json
import math

from benchmarks.harness.record import RESULTS

TILES, STEPS = 100_000, 128
RECORDING = 15  # eager steps that the recording of a graph takes: "ten to twenty", featureviz/ascent/cuda_graph.py
HELD_OUT = 8  # image-steps: 22 views, each a forward, a third of a step
START = 20  # seconds until the workers have the network
BATCHES, GPUS, SLOWER = (16, 256), (1, 8, 64), (1, 10)


def compute_tile(batch: int, slower: float, png: float) -> float:
    """Milliseconds of a worker for a tile of a network that is so much slower than the measured one."""
    rows = json.loads((RESULTS / "gpu.json").read_text())["groups"][f"ways to step, N = {batch}"]["rows"]
    captured, eager = (slower * rows[name]["median"] for name in ("captured", "eager"))
    return (STEPS + HELD_OUT) * captured + RECORDING * eager + png


def compute_run(batch: int, gpus: int, tile: float, driver: float) -> float:
    """Seconds of the whole plan: of the GPUs, or of the driver if that is longer."""
    rounds = math.ceil(TILES / batch / gpus)
    return START + max(rounds * batch * tile, TILES * driver) / 1000


def show_time(seconds: float) -> str:
    """Hours or minutes.

    >>> show_time(5400), show_time(95)
    ('1.5 h', '1.6 min')
    """
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def main() -> None:
    """Print the table of docs/scale.md."""
    parts = json.loads((RESULTS / "gallery_cost.json").read_text())["parts"]
    driver = parts["store"] + parts["way over Ray"]
    print("| network | tiles in a batch | ms per tile | " + " | ".join(f"{g} GPU{'s' * (g > 1)}" for g in GPUS) + " |")
    print("|---" * (3 + len(GPUS)) + "|")
    for slower in SLOWER:
        for batch in BATCHES:
            tile = compute_tile(batch, slower, parts["PNG"])
            name = "MobileNetV3-Large" if slower == 1 else f"{slower} times slower"
            cells = [show_time(compute_run(batch, gpus, tile, driver)) for gpus in GPUS]
            print(f"| {name} | {batch} | {tile:.1f} | {' | '.join(cells)} |")
    print(f"\nThe driver takes {driver:.2f} ms per tile, {TILES * driver / 1000:.0f} s for all.")


if __name__ == "__main__":
    main()
