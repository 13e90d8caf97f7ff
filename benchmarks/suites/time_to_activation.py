"""Seconds until the held-out score that Lucent has after 256 steps, and the scores of all tools at equal steps.

Each tool renders 8 channels of a layer in one batch. The tools take turns of 4 steps. After each turn (after every
fourth turn from step 128 on) ``fv.evaluate`` scores the images of featureviz on 16 held-out draws, the same for all;
this is not timed. Lucent's images are scored after the last turn.

A unit's time is that of the whole batch up to the turn after which its score had reached Lucent's, divided by the
number of images. It is given with building and first step, and without them. A unit that never reaches the score counts
as infinite. The last images of all tools are saved in ``out/``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import wrap_network
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import Spread, compute_ratios, make_group, rotate_orders, round_value
from benchmarks.harness.tables import format_number
from benchmarks.harness.worker_process import WorkerProcess, prepare_contender
from benchmarks.harness.workload import LAYERS

LUCENT, FEATUREVIZ = "lucent", ("featureviz", "featureviz fast")
STEPS, EVERY = 256, 4  # steps in all, and in a turn
DENSE, SPARSE = 32, 4  # score after every turn up to the 32nd, then after every 4th
PICTURES = Path(__file__).parents[2] / "out" / "benchmarks" / "pictures"
COLD, WARM = "with building and first step", "without"


@final
class TimedRun:
    """One tool's render: seconds of each turn, and the held-out score of each unit after it."""

    def __init__(self, worker: WorkerProcess, task: Task) -> None:
        self.worker, self.task = worker, task
        self.build_seconds = worker.build(task)["seconds"]
        self.turn_seconds: list[float] = []
        self.first_step_excess = 0.0  # seconds that the first step took longer than the next ones
        self.scores: dict[int, list[float]] = {}  # [turn][unit]

    def take_turn(self, model: fv.TappedModel | None) -> None:
        """Run 4 steps, and score the images on ``model`` if there is one."""
        if self.turn_seconds:
            seconds = self.worker.run_steps(EVERY)
        else:
            first, rest = self.worker.run_steps(1), self.worker.run_steps(EVERY - 1)
            seconds, self.first_step_excess = first + rest, max(0.0, first - rest / (EVERY - 1))
        self.turn_seconds.append(seconds)
        if model is not None:
            self.scores[len(self.turn_seconds) - 1] = score_images(model, self.task, self.worker)

    def sum_seconds(self, turn: int) -> dict[str, float]:
        """Seconds per image up to the end of that turn."""
        steps = sum(self.turn_seconds[: turn + 1])
        n = len(self.task.units)
        return {COLD: (self.build_seconds + steps) / n, WARM: (steps - self.first_step_excess) / n}

    def find_turns(self, goals: list[float]) -> list[int | None]:
        """For each unit the first turn after which its score is at least its goal."""
        return [next((t for t, s in self.scores.items() if s[u] >= goal), None) for u, goal in enumerate(goals)]

    @property
    def last_scores(self) -> list[float]:
        """Each unit's score at the end."""
        return self.scores[max(self.scores)]


def score_images(model: fv.TappedModel, task: Task, worker: WorkerProcess) -> list[float]:
    """The held-out score of each image, evaluated alone so that all images get the same draws."""
    images = worker.read_images()
    objectives = [fv.Channel(task.layer, unit) for unit in task.units]
    return [
        float(fv.evaluate(model, objective, images[i : i + 1]).scores.mean()) for i, objective in enumerate(objectives)
    ]  # fmt: skip


def run_tools(task: Task, options: Options, turns: int) -> tuple[dict[str, TimedRun], dict[str, str]]:
    """The runs of all tools, in interleaved turns; and the reason for each tool that cannot run."""
    absent: dict[str, str] = {}
    model = wrap_network(task)
    with ExitStack() as stack:
        runs: dict[str, TimedRun] = {}
        for name in (LUCENT, *FEATUREVIZ):
            with WorkerProcess(name, options) as trial:  # also fills the file cache
                reason = prepare_contender(trial, task)
            if reason is None:
                runs[name] = TimedRun(stack.enter_context(WorkerProcess(name, options)), task)
            else:
                absent[name] = reason
        for turn, order in enumerate(rotate_orders(list(runs), turns)):
            is_scored = turn < DENSE or turn % SPARSE == SPARSE - 1
            for name in order:
                needs_scores = turn == turns - 1 or (is_scored and name != LUCENT)
                runs[name].take_turn(model if needs_scores else None)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name, timed in runs.items():
            images = (timed.worker.read_images() * 255).round().to(torch.uint8)
            torch.save(images, PICTURES / f"{task.layer} {name}.pt")
    return runs, absent


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    groups: dict[str, Any] = {}
    turns = (8 if options.quick else STEPS) // EVERY
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        task = options.make_task(layer=layer)
        runs, absent = run_tools(task, options, turns)
        groups |= compare_runs(layer, runs, absent, task)
    return {"settings": {"rounds": turns}, "groups": groups}


def compare_runs(layer: str, runs: dict[str, TimedRun], absent: dict[str, str], task: Task) -> dict[str, Any]:
    """One group with building and first step and one without; a row holds one value a unit."""
    goals = runs[LUCENT].last_scores if LUCENT in runs else [float("inf")] * len(task.units)
    facts = {"every": EVERY} | {name: _describe_run(timed, goals) for name, timed in runs.items()}
    groups = {}
    for way in (COLD, WARM):
        rows: dict[str, list[float | None] | str] = dict(absent)
        for name, timed in runs.items():
            last = len(timed.turn_seconds) - 1
            turns = [last] * len(goals) if name == LUCENT else timed.find_turns(goals)
            rows[name] = [None if turn is None else timed.sum_seconds(turn)[way] for turn in turns]
        groups[f"{layer}, {way}"] = make_group(
            rows, "s per image, one value a unit", baseline=LUCENT, task=describe_task(task),
            facts=facts if way == COLD else None,
        )  # fmt: skip
    return groups


def _describe_run(timed: TimedRun, goals: list[float]) -> dict[str, Any]:
    return {
        "step reached": [None if turn is None else EVERY * (turn + 1) for turn in timed.find_turns(goals)],
        "score at the end": [round_value(v) for v in timed.last_scores],
        "scores by step": {EVERY * (turn + 1): [round_value(v) for v in s] for turn, s in timed.scores.items()},
        "seconds of each turn": [round_value(v) for v in timed.turn_seconds],
        "seconds of building": round_value(timed.build_seconds),
    }


def make_table(result: dict[str, Any]) -> str:
    """Times sooner than Lucent, with and without the first step; units that got there; scores at equal steps."""
    lines = [
        f"| layer | | times sooner than Lucent, {COLD} | {WARM} | units reached |"
        " scores over Lucent's at equal steps, and the lowest |",
        "|---|---|---|---|---|---|",
    ]
    for title, cold in result["groups"].items():
        layer, _, way = title.partition(", ")
        if way == COLD:
            warm = result["groups"][f"{layer}, {WARM}"]
            lines += [_format_line(layer, name, cold, warm) for name in FEATUREVIZ if name in cold["rows"]]
    return "\n".join(lines)


def _format_line(layer: str, name: str, cold: dict[str, Any], warm: dict[str, Any]) -> str:
    row = cold["rows"][name]
    for needed in (row, cold["rows"].get(LUCENT, {"unsupported": "no Lucent"})):
        if "unsupported" in needed:
            return f"| {layer} | {name} | {needed['unsupported']} | | | |"
    speedups = [_format_speedup(way["rows"][name]["ratio"]) for way in (cold, warm)]
    last_scores = {side: cold["facts"][side]["score at the end"] for side in (name, LUCENT)}
    ratios = compute_ratios(last_scores[name], last_scores[LUCENT])
    quality = f"{format_number(Spread.from_values(ratios).median)}, {format_number(min(ratios))}"
    count = sum(v is not None for v in row["rounds"])
    return f"| {layer} | {name} | {' | '.join(speedups)} | {count} of {len(row['rounds'])} | {quality} |"


def _format_speedup(ratio: dict[str, Any]) -> str:
    """Lucent's time over the tool's: the inverse of the stored ratio."""
    middle, low, high = (None if v is None else 1 / v for v in (ratio["median"], *ratio["quartiles"]))
    return "never" if middle is None else f"{format_number(middle)}x ({format_number(high)}-{format_number(low)})"
