"""The step on a GPU: eager, captured, compiled, bfloat16; against the bare network and against Lucent.

The captured step meets each of three fields in rounds of their own, so that no more than five variants share the
memory. Run with ``python -m benchmarks run gpu``; nothing but featureviz is needed, Lucent takes part where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import ascent as built
from benchmarks.contenders.featureviz import wrapped
from benchmarks.options import Options, Skipped, told
from benchmarks.remote import Remote, started
from benchmarks.rounds import Seconds, clock, group, interleaved, rounded
from benchmarks.suites.overhead import bare
from benchmarks.tables import matrix
from benchmarks.workload import units
from featureviz.ascent.cuda_graph import CudaGraphStep

Step = Callable[[], object]

LAYER, WARMUP = "features.13", 24
STEPS = {1: 64, 16: 32, 256: 8}  # of a round, by number of images
CAPTURED, LUCENT = "captured", "lucent"
RUNTIMES: dict[str, fv.Runtime] = {
    "eager": fv.Runtime(compile=False),
    CAPTURED: fv.Runtime(compile=False),
    "captured, compiled": fv.Runtime(compile=True),
    "captured, bfloat16": fv.Runtime(compile=False, precision="bfloat16"),
    "captured, compiled, bfloat16": fv.Runtime(compile=True, precision="bfloat16"),
}
BARE = ("bare network", "bare network, captured")
FIELDS = {"ways to step": tuple(RUNTIMES), "the bare network": (CAPTURED, *BARE), "Lucent": (CAPTURED, LUCENT)}


def variant(name: str, task: Task, model: fv.TappedModel) -> tuple[Step, fv.Ascent]:
    """A step of that name, and the ascent that it moves."""
    ascent = built(task, model, runtime=RUNTIMES.get(name, RUNTIMES["eager"]))
    if name in BARE:
        step = bare(ascent)
        return (replayed(step) if name.endswith("captured") else step), ascent
    return (ascent.step if name == "eager" else CudaGraphStep(ascent).step), ascent


def replayed(step: Step) -> Step:
    """``step`` captured by hand, after a warm-up on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def met(names: Sequence[str], task: Task, options: Options, rounds: int) -> dict[str, Any]:
    """One field: all of ``names`` in interleaved rounds, and the held-out scores they ended with, at equal steps."""
    model, n = wrapped(task), len(task.units)
    steps = 4 if options.quick else STEPS[n]
    sides: dict[str, Callable[[], float]] = {}
    absent: dict[str, str] = {}
    ascents: dict[str, fv.Ascent] = {}
    with ExitStack() as stack:
        for name in names:
            if name == LUCENT:
                worker = stack.enter_context(Remote(name, options))
                if reason := started(worker, task):
                    absent[name] = reason
                else:
                    sides[name] = lambda worker=worker: 1000 * worker.steps(steps) / (steps * n)
                continue
            step, ascent = variant(name, task, model)
            clock(step, WARMUP)
            sides[name] = lambda step=step: 1000 * clock(step, steps) / (steps * n)
            ascents |= {} if name in BARE else {name: ascent}
        taken: dict[str, Seconds | str] = {**interleaved(sides, rounds), **absent}
    facts = {
        "steps": WARMUP + steps * rounds,
        "held-out score": {name: rounded(_held_out(model, task, ascent)) for name, ascent in ascents.items()},
        "peak GiB allocated": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }
    return group(taken, "ms per image-step", baseline=CAPTURED, task=told(task), facts=facts)


def run(options: Options) -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    rounds, groups = options.rounds(7), {}
    for n in tuple(STEPS)[: 1 if options.quick else None]:
        task = options.task(layer=LAYER, units=units(LAYER, n))
        for title, names in FIELDS.items():
            few = [name for name in names if n > 1 or "compiled" not in name]  # one image is no reason to compile
            groups[f"{title}, N = {n}"] = met(few, task, replace(options, device="cuda"), rounds)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return {"settings": {"rounds": rounds}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    """A table for each field, a column for each number of images."""
    titles = [[title for title in result["groups"] if title.startswith(field)] for field in FIELDS]
    return "\n\n".join(matrix(result, few, corner="ms per image-step; times captured") for few in titles if few)


def _held_out(model: fv.TappedModel, task: Task, ascent: fv.Ascent) -> float:
    goal = fv.Channel(task.layer, list(task.units))
    return float(fv.evaluate(model, goal, ascent.images()).scores.mean())
