"""The step of featureviz by number of images, by image size, and over 2,000 steps."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import make_group
from benchmarks.harness.tables import format_number
from benchmarks.harness.worker_process import WorkerProcess, measure_contenders
from benchmarks.harness.workload import select_units

IMAGES, SIZES = (1, 2, 4, 8, 16, 32, 64), (64, 128, 192, 256, 384, 512)
LAYER, BLOCKS, LENGTH, BATCH = "features.13", 20, 100, 4
BY_IMAGES, BY_SIZE, BY_STEPS = "images at once", "image size in pixels, 8 images", "steps"


def run(options: Options) -> dict[str, Any]:
    rounds = options.choose_rounds(7)
    counts, sizes = (IMAGES[:3], SIZES[:2]) if options.quick else (IMAGES, SIZES)
    by_images = {str(n): ("featureviz", options.make_task(layer=LAYER, units=select_units(LAYER, n))) for n in counts}
    by_size = {str(size): ("featureviz", options.make_task(layer=LAYER, size=size)) for size in sizes}
    groups = {
        title: make_group(measure_contenders(entries, options, rounds=rounds), "ms per image-step", baseline=first)
        for title, entries, first in ((BY_IMAGES, by_images, "1"), (BY_SIZE, by_size, str(sizes[0])))
    }
    groups[BY_STEPS] = measure_long_run(options)
    return {"settings": {"rounds": rounds}, "groups": groups}


def measure_long_run(options: Options) -> dict[str, Any]:
    """2,000 steps in blocks of 100: milliseconds per image-step of each block, and resident memory after it."""
    task = options.make_task(layer=LAYER, units=select_units(LAYER, BATCH))
    blocks, length = (4, 5) if options.quick else (BLOCKS, LENGTH)
    with WorkerProcess("featureviz", options) as worker:
        worker.build(task)
        worker.run_steps(2)
        times: list[float] = []
        resident = [worker.read_memory()["now"] / 2**20]
        for _ in range(blocks):
            times.append(1000 * worker.run_steps(length) / (length * BATCH))
            resident.append(worker.read_memory()["now"] / 2**20)
    quarter = max(1, blocks // 4)
    facts = {
        "steps of each": length,
        "resident MiB": [round(v, 1) for v in resident],
        "last quarter over first": round(median(times[-quarter:]) / median(times[:quarter]), 4),
        "MiB grown from the first to the last": round(resident[-1] - resident[1], 1),
    }
    return make_group({"featureviz": times}, "ms per image-step", task=describe_task(task), facts=facts)


def make_table(result: dict[str, Any]) -> str:
    paragraphs = []
    for title in (BY_IMAGES, BY_SIZE):
        rows = result["groups"][title]["rows"]
        lines = [f"| {title} | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
        lines.append(f"| ms per image-step | {' | '.join(format_number(row['median']) for row in rows.values())} |")
        paragraphs.append("\n".join(lines))
    steps = result["groups"][BY_STEPS]
    facts = steps["facts"]
    total = facts["steps of each"] * len(steps["rows"]["featureviz"]["rounds"])
    paragraphs.append(
        f"Over {total:,} steps the last quarter took {facts['last quarter over first']:.3f} times as long as the first"
        f" quarter, and resident memory grew by {facts['MiB grown from the first to the last']:.1f} MiB."
    )
    return "\n\n".join(paragraphs)
