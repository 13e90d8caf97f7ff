"""What a gallery costs beside its renders: the pipeline over the bare engine, and each part of a tile's way.

    python -m benchmarks.studies.gallery_cost [--rounds 5] [--steps 128] [--count 16] [--device cpu] [--quick]

The pipeline is ``render_plan`` into a new folder. The bare engine renders the same batches with ``fv.render`` and
keeps nothing. Both run in turn, and the ratios are those of paired rounds: of seconds, and of seconds of the processor,
which other programs hardly change. Each part is measured alone, on tiles of the same plan; the PNG in seconds of the
processor. The way over Ray is left out where Ray is not installed.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import featureviz as fv
from benchmarks.harness.record import describe_device, describe_machine, write_result
from benchmarks.harness.rounds import Spread, compute_ratios, interleave, round_value
from featureviz.gallery import Gallery, Plan, plan, render_plan
from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.engine.worker import Job, Outcome
from featureviz.gallery.planning.tile import Tile, hash_tile
from featureviz.gallery.store.writing import Made, Store
from featureviz.objectives.goals import merge_per_image
from featureviz.rendering.png import encode_png

GATES, CHANNELS = "features.9.block.2", "features.6"
COUNT, BATCH, STORED = 16, 16, 5000  # units of each by default; tiles together; tiles of the large store


def make_plan(model: fv.TappedModel, steps: int, count: int) -> Plan:
    """Gates of one block and channels of one layer, excited."""
    return plan(
        model, layers=CHANNELS, gates=GATES, units=range(count), signs=[1], batch=BATCH, recipe="clear", steps=steps
    )


def compare_pipeline(model: fv.TappedModel, made: Plan, device: str, rounds: int) -> dict[str, Any]:
    """Milliseconds per tile of both sides, by the clock and of the processor, and their ratios."""
    goals = [(merge_per_image([fv.parse(tile.spec) for tile in tiles]), tiles) for tiles in made.batches()]

    def bare() -> None:
        for goal, tiles in goals:
            ids = [tile.variant for tile in tiles]
            fv.render(model, goal, image_ids=ids, progress=False, device=device, **made.recipe.options)

    def pipeline() -> None:
        with tempfile.TemporaryDirectory() as folder:
            render_plan(made, model, folder, device=device, progress=False)

    processor: dict[str, list[float]] = {"bare engine": [], "pipeline": []}

    def measure(name: str, work: Callable[[], None]) -> float:
        start, worked = time.perf_counter(), time.process_time()
        work()
        processor[name].append(1000 * (time.process_time() - worked) / len(made))
        return 1000 * (time.perf_counter() - start) / len(made)

    bare()  # the first render learns the layers' shapes
    sides = {name: partial(measure, name, work) for name, work in (("bare engine", bare), ("pipeline", pipeline))}
    times = interleave(sides, rounds)
    return {name: _summarise(values) for name, values in (("clock", times), ("processor", processor))}


def _summarise(times: dict[str, list[float]]) -> dict[str, Any]:
    """Each round, the medians with quartiles, and the ratio of the pipeline to the bare engine."""
    ratios = compute_ratios(times["pipeline"], times["bare engine"])
    rows = {
        name: {"rounds": [round_value(v) for v in values], **Spread.from_values(values).to_json()}
        for name, values in times.items()
    }
    return rows | {"ratio": Spread.from_values(ratios).to_json()}


def time_parts(model: fv.TappedModel, made: Plan, device: str) -> dict[str, float]:
    """Milliseconds per tile of what the pipeline does beside rendering, and bytes."""
    tiles = made.batches()[0]
    options: dict[str, Any] = {**made.recipe.options, "device": device}
    goal = merge_per_image([fv.parse(tile.spec) for tile in tiles])
    ids, count = [tile.variant for tile in tiles], len(tiles)
    rendering = fv.render(model, goal, image_ids=ids, progress=False, **options)
    encoding = time_call(
        lambda: [encode_png(rendering.images[i], rendering.recipe_of(i)) for i in range(count)],
        count, clock=time.process_time,
    )  # fmt: skip
    full = render_batch(model, tiles, options)
    size = sum(len(tile.png) for tile in full) / count
    return {"PNG": encoding, "bytes of a PNG": size, **time_ray(model, options, Outcome(full, []), count)}


def time_ray(model: fv.TappedModel, options: dict[str, Any], outcome: Outcome, count: int) -> dict[str, float]:
    """Milliseconds and bytes of a tile on its way from a worker, and bytes of the network on its way there."""
    try:
        import ray
    except ImportError:
        return {}

    class Sender:
        """A worker that has its tiles already."""

        def send(self, outcome: Outcome) -> Outcome:
            return outcome

    job = Job.pack(model, options)
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        actor: Any = ray.remote(Sender)
        sender, sent = actor.remote(), ray.put(outcome)
        ray.get(sender.send.remote(sent))
        way = time_call(lambda: ray.get(sender.send.remote(sent)), count)
    finally:
        ray.shutdown()
    return {
        "way over Ray": way, "bytes of a tile over Ray": len(pickle.dumps(outcome)) / count,
        "bytes of the network over Ray": len(pickle.dumps(job)),
    }  # fmt: skip


def time_store(made: Plan, full: Sequence[Made], count: int) -> dict[str, float]:
    """Milliseconds per tile of planning, writing, checking and reading a store of ``count`` tiles, and its bytes."""
    tiles = [_number(made, made.tiles[i % len(made)], i) for i in range(count)]
    large = replace(made, tiles=tuple(tiles))
    content = [replace(full[i % len(full)], key=tile.key) for i, tile in enumerate(tiles)]
    batches = [content[start : start + BATCH] for start in range(0, count, BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        with Store.hold(folder, large) as store:
            seconds = [_time(lambda batch=batch: store.add(batch)) / len(batch) for batch in batches]
            check = _time(store.missing)
        return {
            "store": 1000 * Spread.from_values(seconds).median,
            "store, first quarter": 1000 * Spread.from_values(seconds[: len(seconds) // 4]).median,
            "store, last quarter": 1000 * Spread.from_values(seconds[-len(seconds) // 4 :]).median,
            "check before a resume": 1000 * check / count,
            "read back": 1000 * _time(lambda: Gallery.open(folder).tiles()) / count,
            "bytes of the index": (Path(folder) / "index.sqlite").stat().st_size / count,
            "bytes of the manifest": (Path(folder) / "plan.json").stat().st_size / count,
        }


def time_call(
    call: Callable[[], object], count: int, times: int = 15, *, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Milliseconds of a call for each of its ``count`` tiles: the median of some calls."""
    return 1000 * Spread.from_values([_time(call, clock) for _ in range(times)]).median / count


def _time(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    call()
    return clock() - start


def _number(made: Plan, tile: Tile, variant: int) -> Tile:
    key = hash_tile(made.fingerprint, made.recipe.text, tile.spec, variant)
    return replace(tile, key=key, variant=variant)


def main() -> None:
    """Print the figures, and write them to the results unless the run is quick."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--count", type=int, default=COUNT, help="gates, and channels (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="shows only that the study runs")
    args = parser.parse_args()
    machine = describe_machine(torch.get_num_threads())
    model = fv.load("embedded").on(args.device)
    made = make_plan(model, 4 if args.quick else args.steps, 4 if args.quick else args.count)
    result = {"tiles": len(made), "steps": made.recipe.text["steps"], "size": made.recipe.text["size"]}
    result["ms per tile"] = compare_pipeline(model, made, args.device, 2 if args.quick else args.rounds)
    full = render_batch(model, made.batches()[0], made.recipe.options | {"device": args.device})
    parts = time_parts(model, made, args.device) | time_store(made, full, 100 if args.quick else STORED)
    result["parts"] = {name: round_value(value) for name, value in parts.items()}
    for name, value in (result["ms per tile"] | result["parts"]).items():
        print(f"{name:32} {value}")
    if not args.quick:
        write_result("gallery_cost", result, measured={"machine": machine, "device": describe_device(args.device)})


if __name__ == "__main__":
    main()
