"""The step on a GPU: eager, captured, compiled, in bfloat16; against the bare network and against Lucent.

``captured`` is measured again in each of the three comparisons, so that at most five variants share the memory. Run
``python -m benchmarks run gpu``; Lucent is measured too if it is installed, and nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import make_ascent, wrap_network
from benchmarks.harness.options import Options, Skipped, describe_task
from benchmarks.harness.rounds import Seconds, interleave, make_group, round_value, time_steps
from benchmarks.harness.tables import tabulate
from benchmarks.harness.worker_process import WorkerProcess, prepare_contender
from benchmarks.harness.workload import select_units
from benchmarks.suites.overhead import make_bare_step
from featureviz.ascent.cuda_graph import CudaGraphStep

Step = Callable[[], object]

LAYER, WARMUP = "features.13", 24
STEPS = {1: 64, 16: 32, 256: 8}  # number of images -> steps in a round
CAPTURED, LUCENT = "captured", "lucent"
RUNTIMES: dict[str, fv.Runtime] = {
    "eager": fv.Runtime(compile=False),
    CAPTURED: fv.Runtime(compile=False),
    "captured, compiled": fv.Runtime(compile=True),
    "captured, bfloat16": fv.Runtime(compile=False, precision="bfloat16"),
    "captured, compiled, bfloat16": fv.Runtime(compile=True, precision="bfloat16"),
}
BARE = ("bare network", "bare network, captured")
COMPARISONS = {"ways to step": tuple(RUNTIMES), "the bare network": (CAPTURED, *BARE), "Lucent": (CAPTURED, LUCENT)}


def make_step(name: str, task: Task, model: fv.TappedModel) -> tuple[Step, fv.Ascent]:
    """The step of the variant ``name``, and the ascent that it advances."""
    ascent = make_ascent(task, model, runtime=RUNTIMES.get(name, RUNTIMES["eager"]))
    if name in BARE:
        step = make_bare_step(ascent)
        return (capture_step(step) if name.endswith("captured") else step), ascent
    return (ascent.step if name == "eager" else CudaGraphStep(ascent).step), ascent


def capture_step(step: Step) -> Step:
    """``step`` as a CUDA graph, captured by hand after a warm-up on a separate stream."""
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


def measure_comparison(names: Sequence[str], task: Task, options: Options, rounds: int) -> dict[str, Any]:
    """The variants ``names`` in interleaved rounds, and their held-out scores at the end, at equal steps."""
    model, n = wrap_network(task), len(task.units)
    steps = 4 if options.quick else STEPS[n]
    sides: dict[str, Callable[[], float]] = {}
    absent: dict[str, str] = {}
    ascents: dict[str, fv.Ascent] = {}
    with ExitStack() as stack:
        for name in names:
            if name == LUCENT:
                worker = stack.enter_context(WorkerProcess(name, options))
                if reason := prepare_contender(worker, task):
                    absent[name] = reason
                else:
                    sides[name] = lambda worker=worker: 1000 * worker.run_steps(steps) / (steps * n)
                continue
            step, ascent = make_step(name, task, model)
            time_steps(step, WARMUP)
            sides[name] = lambda step=step: 1000 * time_steps(step, steps) / (steps * n)
            ascents |= {} if name in BARE else {name: ascent}
        times: dict[str, Seconds | str] = {**interleave(sides, rounds), **absent}
    facts = {
        "steps": WARMUP + steps * rounds,
        "held-out score": {name: round_value(_evaluate(model, task, ascent)) for name, ascent in ascents.items()},
        "peak GiB allocated": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }
    return make_group(times, "ms per image-step", baseline=CAPTURED, task=describe_task(task), facts=facts)


def run(options: Options) -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    rounds, groups = options.choose_rounds(7), {}
    for n in tuple(STEPS)[: 1 if options.quick else None]:
        task = options.make_task(layer=LAYER, units=select_units(LAYER, n))
        for title, names in COMPARISONS.items():
            variants = [
                name for name in names if n > 1 or "compiled" not in name
            ]  # compilation does not pay for one image
            groups[f"{title}, N = {n}"] = measure_comparison(variants, task, replace(options, device="cuda"), rounds)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return {"settings": {"rounds": rounds}, "groups": groups}


def make_table(result: dict[str, Any]) -> str:
    """One table for each comparison, with one column for each number of images."""
    columns = [[title for title in result["groups"] if title.startswith(name)] for name in COMPARISONS]
    corner = "ms per image-step; times captured"
    return "\n\n".join(tabulate(result, titles, corner=corner) for titles in columns if titles)


def _evaluate(model: fv.TappedModel, task: Task, ascent: fv.Ascent) -> float:
    objective = fv.Channel(task.layer, list(task.units))
    return float(fv.evaluate(model, objective, ascent.images()).scores.mean())
