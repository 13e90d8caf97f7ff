"""Seconds until the held-out score that Lucent has after 256 steps, and the scores of all at equal steps.

8 channels of a layer in one batch on each side. All take 4 steps in turn; after each turn, or each fourth behind step
128, featureviz' images are judged by ``fv.evaluate`` (16 draws that no ascent saw, the same for all), which is not
counted; Lucent's are judged after the last. For each unit the time is that of the whole batch up to the turn in which
the unit's score was seen to have reached Lucent's, divided by the number of images: with building and first step, and
once without them. A unit that never does counts as infinite. The last images of all are left in ``out/``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import wrapped
from benchmarks.options import Options, told
from benchmarks.remote import Remote, started
from benchmarks.rounds import Spread, group, orders, ratios, rounded
from benchmarks.tables import number
from benchmarks.workload import LAYERS

LUCENT, OURS = "lucent", ("featureviz", "featureviz fast")
STEPS, EVERY, CLOSELY, SELDOM = 256, 4, 32, 4  # looked at each turn up to the 32nd, then each fourth
PICTURES = Path(__file__).parents[2] / "out" / "benchmarks" / "pictures"
COLD, WARM = "with building and first step", "without"


@final
class Climb:
    """One contender on its way up: seconds after each turn, and each unit's held-out score."""

    def __init__(self, worker: Remote, task: Task) -> None:
        self.worker, self.task = worker, task
        self.built = worker.build(task)["seconds"]
        self.seconds: list[float] = []
        self.late = 0.0  # of the first step, over what the next took
        self.scores: dict[int, list[float]] = {}  # [turn][unit]

    def turn(self, judge: fv.TappedModel | None) -> None:
        if self.seconds:
            taken = self.worker.steps(EVERY)
        else:
            first, rest = self.worker.steps(1), self.worker.steps(EVERY - 1)
            taken, self.late = first + rest, max(0.0, first - rest / (EVERY - 1))
        self.seconds.append(taken)
        if judge is not None:
            self.scores[len(self.seconds) - 1] = judged(judge, self.task, self.worker)

    def until(self, turn: int) -> dict[str, float]:
        """Seconds per image up to and with that turn."""
        steps = sum(self.seconds[: turn + 1])
        n = len(self.task.units)
        return {COLD: (self.built + steps) / n, WARM: (steps - self.late) / n}

    def reached(self, goals: list[float]) -> list[int | None]:
        """For each unit, the first turn after which its score is that of its goal."""
        return [next((t for t, s in self.scores.items() if s[u] >= goal), None) for u, goal in enumerate(goals)]

    @property
    def last(self) -> list[float]:
        """Each unit's score at the end."""
        return self.scores[max(self.scores)]


def judged(judge: fv.TappedModel, task: Task, worker: Remote) -> list[float]:
    """The held-out score of each image, each alone, so that all see the same draws."""
    images = worker.images()
    goals = [fv.Channel(task.layer, unit) for unit in task.units]
    return [
        float(fv.evaluate(judge, goal, images[i : i + 1]).scores.mean()) for i, goal in enumerate(goals)
    ]  # fmt: skip


def climbed(task: Task, options: Options, turns: int) -> tuple[dict[str, Climb], dict[str, str]]:
    """All contenders, their turns interleaved; and who could not, and why."""
    absent: dict[str, str] = {}
    judge = wrapped(task)
    with ExitStack() as stack:
        climbs: dict[str, Climb] = {}
        for name in (LUCENT, *OURS):
            with Remote(name, options) as trial:
                reason = started(trial, task)  # and the file cache is warm
            if reason is None:
                climbs[name] = Climb(stack.enter_context(Remote(name, options)), task)
            else:
                absent[name] = reason
        for turn, order in enumerate(orders(list(climbs), turns)):
            seen = turn < CLOSELY or turn % SELDOM == SELDOM - 1
            for name in order:
                looks = turn == turns - 1 or (seen and name != LUCENT)
                climbs[name].turn(judge if looks else None)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name, climb in climbs.items():
            torch.save((climb.worker.images() * 255).round().to(torch.uint8), PICTURES / f"{task.layer} {name}.pt")
    return climbs, absent


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    groups: dict[str, Any] = {}
    turns = (8 if options.quick else STEPS) // EVERY
    for layer in LAYERS[-2:-1] if options.quick else LAYERS:
        task = options.task(layer=layer)
        climbs, absent = climbed(task, options, turns)
        groups |= compared(layer, climbs, absent, task)
    return {"settings": {"rounds": turns}, "groups": groups}


def compared(layer: str, climbs: dict[str, Climb], absent: dict[str, str], task: Task) -> dict[str, Any]:
    """A group with the first step and one without; the values of a row are one a unit."""
    base = climbs.get(LUCENT)
    goals = base.last if base else [float("inf")] * len(task.units)
    told_by = {
        name: {
            "step reached": [None if t is None else EVERY * (t + 1) for t in climb.reached(goals)],
            "score at the end": [rounded(v) for v in climb.last],
            "scores by step": {EVERY * (t + 1): [rounded(v) for v in s] for t, s in climb.scores.items()},
            "seconds of each turn": [rounded(v) for v in climb.seconds],
            "seconds of building": rounded(climb.built),
        }
        for name, climb in climbs.items()
    }
    made = {}
    for way in (COLD, WARM):
        rows: dict[str, list[float | None] | str] = dict(absent)
        for name, climb in climbs.items():
            last = len(climb.seconds) - 1
            ends = [last] * len(goals) if name == LUCENT else climb.reached(goals)
            rows[name] = [None if t is None else climb.until(t)[way] for t in ends]
        made[f"{layer}, {way}"] = group(
            rows, "s per image, one value a unit", baseline=LUCENT, task=told(task),
            facts={"every": EVERY, **told_by} if way == COLD else None,
        )  # fmt: skip
    return made


def table(result: dict[str, Any]) -> str:
    """How many times sooner, with and without the first step; units not reached; scores at equal steps."""
    lines = [
        f"| layer | | times sooner than Lucent, {COLD} | {WARM} | units reached |"
        " scores over Lucent's at equal steps, and the lowest |",
        "|---|---|---|---|---|---|",
    ]
    for title, cold in result["groups"].items():
        layer, _, way = title.partition(", ")
        if way == COLD:
            warm = result["groups"][f"{layer}, {WARM}"]
            lines += [_line(layer, name, cold, warm) for name in OURS if name in cold["rows"]]
    return "\n".join(lines)


def _line(layer: str, name: str, cold: dict[str, Any], warm: dict[str, Any]) -> str:
    row = cold["rows"][name]
    for missing in (row, cold["rows"].get(LUCENT, {"unsupported": "no Lucent"})):
        if "unsupported" in missing:
            return f"| {layer} | {name} | {missing['unsupported']} | | | |"
    sooner = [_sooner(way["rows"][name]["ratio"]) for way in (cold, warm)]
    ended = {side: cold["facts"][side]["score at the end"] for side in (name, LUCENT)}
    above = ratios(ended[name], ended[LUCENT])
    quality = f"{number(Spread.of(above).median)}, {number(min(above))}"
    count = sum(v is not None for v in row["rounds"])
    return f"| {layer} | {name} | {' | '.join(sooner)} | {count} of {len(row['rounds'])} | {quality} |"


def _sooner(ratio: dict[str, Any]) -> str:
    """The inverse of what it is as a share of Lucent's time."""
    middle, low, high = (None if v is None else 1 / v for v in (ratio["median"], *ratio["quartiles"]))
    return "never" if middle is None else f"{number(middle)}x ({number(high)}-{number(low)})"
