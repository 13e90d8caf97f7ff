"""Held-out score against seconds: the plain render, the preset, and each shortcut by itself.

Every setting renders the same 8 channels with ``fv.render``, from the same seed, for 16, 32, 64 and 128 steps; the time
is the whole call's, per image, its own judging included. Scores are held-out ones, divided by what the plain render
has at the same number of steps; the median of the 8 is told, and the lowest. They are the same in every round.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, final

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import wrapped
from benchmarks.options import Options, told
from benchmarks.rounds import Spread, group, interleaved, ratios, rounded
from benchmarks.tables import number

LAYERS, STEPS = ("features.6", "features.12", "features.13"), (16, 32, 64, 128)
PLAIN = "plain"


def settings(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` by name; all but the preset change one thing."""
    return {
        PLAIN: {"steps": steps},
        "fast()": fv.fast(steps),
        "shorter momentum": {"steps": steps, "optimizer": fv.Adam(0.05, betas=(0.5, 0.999))},
        "cooldown": {"steps": steps, "optimizer": fv.Adam(fv.LinearCooldown(0.05))},
        "no redirection": {"steps": steps, "runtime": fv.Runtime(compile=False, redirect=0)},
    }


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    groups: dict[str, Any] = {}
    rounds, counts = options.rounds(3), STEPS[:1] if options.quick else STEPS
    for layer in LAYERS[:1] if options.quick else LAYERS:
        task = options.task(layer=layer)
        model, goal = wrapped(task), fv.Channel(layer, list(task.units))
        for warm_up in settings(8).values():
            fv.render(model, goal, **warm_up, size=task.size, progress=False)
        for steps in counts:
            sides = {name: Side(model, goal, task, setting) for name, setting in settings(steps).items()}
            taken = interleaved(sides, rounds)
            facts = {"held-out scores": {name: side.scores for name, side in sides.items()}}
            groups[f"{layer}, {steps} steps"] = group(
                taken, "s per image", baseline=PLAIN, task=told(task), facts=facts
            )
    return {"settings": {"rounds": rounds}, "groups": groups}


@final
class Side:
    """Renders with a setting: seconds per image; keeps the held-out scores, one a unit."""

    def __init__(self, model: fv.TappedModel, goal: fv.Objective, task: Task, setting: dict[str, Any]) -> None:
        given = {"runtime": fv.Runtime(compile=False)} | setting
        self.render = partial(fv.render, model, goal, **given, size=task.size, progress=False)
        self.scores: list[float] = []

    def __call__(self) -> float:
        started = time.perf_counter()
        made = self.render()
        seconds = (time.perf_counter() - started) / len(made)
        self.scores = [rounded(v) or 0.0 for v in made.held_out.scores.mean(0).tolist()]
        return seconds


def table(result: dict[str, Any]) -> str:
    """For each setting, what its score is of the plain one's at equal steps, the lowest, and its share of the time."""
    groups = result["groups"]
    layers, counts = (list(dict.fromkeys(title.split(", ")[i] for title in groups)) for i in (0, 1))
    lines = [
        f"| score over the plain render's; lowest; time | | {' | '.join(counts)} |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for layer in layers:
        made = [groups[f"{layer}, {steps}"] for steps in counts]
        lines += [f"| {layer} | {name} | {' | '.join(_cell(of, name) for of in made)} |" for name in settings(1)]
    return "\n".join(lines)


def _cell(made: dict[str, Any], name: str) -> str:
    scores = made["facts"]["held-out scores"]
    of = ratios(scores[name], scores[PLAIN])
    return f"{number(Spread.of(of).median)}; {number(min(of))}; {made['rows'][name]['ratio']['median']:.2f}"
