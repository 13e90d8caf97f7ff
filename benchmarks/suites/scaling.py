"""featureviz by number of images, by image size, and over 2,000 steps."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.options import Options, told
from benchmarks.remote import Remote, race
from benchmarks.rounds import group
from benchmarks.tables import number
from benchmarks.workload import units

IMAGES, SIZES = (1, 2, 4, 8, 16, 32, 64), (64, 128, 192, 256, 384, 512)
LAYER, BLOCKS, LENGTH, AT_ONCE = "features.13", 20, 100, 4
BY_IMAGES, BY_SIZE, BY_STEPS = "images at once", "image size in pixels, 8 images", "steps"


def run(options: Options) -> dict[str, Any]:
    rounds = options.rounds(7)
    counts, sizes = (IMAGES[:3], SIZES[:2]) if options.quick else (IMAGES, SIZES)
    by_images = {str(n): ("featureviz", options.task(layer=LAYER, units=units(LAYER, n))) for n in counts}
    by_size = {str(s): ("featureviz", options.task(layer=LAYER, size=s)) for s in sizes}
    groups = {
        title: group(race(entries, options, rounds=rounds), "ms per image-step", baseline=first)
        for title, entries, first in ((BY_IMAGES, by_images, "1"), (BY_SIZE, by_size, str(sizes[0])))
    }
    groups[BY_STEPS] = endurance(options)
    return {"settings": {"rounds": rounds}, "groups": groups}


def endurance(options: Options) -> dict[str, Any]:
    """Milliseconds per image-step of each hundred steps of two thousand, and resident memory after each."""
    task = options.task(layer=LAYER, units=units(LAYER, AT_ONCE))
    blocks, length = (4, 5) if options.quick else (BLOCKS, LENGTH)
    with Remote("featureviz", options) as worker:
        worker.build(task)
        worker.steps(2)
        times: list[float] = []
        resident = [worker.memory()["now"] / 2**20]
        for _ in range(blocks):
            times.append(1000 * worker.steps(length) / (length * AT_ONCE))
            resident.append(worker.memory()["now"] / 2**20)
    quarter = max(1, blocks // 4)
    facts = {
        "steps of each": length,
        "resident MiB": [round(v, 1) for v in resident],
        "last quarter over first": round(median(times[-quarter:]) / median(times[:quarter]), 4),
        "MiB grown from the first to the last": round(resident[-1] - resident[1], 1),
    }
    return group({"featureviz": times}, "ms per image-step", task=told(task), facts=facts)


def table(result: dict[str, Any]) -> str:
    parts = []
    for title in (BY_IMAGES, BY_SIZE):
        rows = result["groups"][title]["rows"]
        lines = [f"| {title} | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
        lines.append(f"| ms per image-step | {' | '.join(number(row['median']) for row in rows.values())} |")
        parts.append("\n".join(lines))
    steps = result["groups"][BY_STEPS]
    facts = steps["facts"]
    total = facts["steps of each"] * len(steps["rows"]["featureviz"]["rounds"])
    parts.append(
        f"Over {total:,} steps the last quarter took {facts['last quarter over first']:.3f} times the first quarter's"
        f" time, and resident memory grew by {facts['MiB grown from the first to the last']:.1f} MiB."
    )
    return "\n\n".join(parts)
