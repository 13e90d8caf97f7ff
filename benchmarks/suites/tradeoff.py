"""Held-out score against seconds: the plain render, the fast preset, and each of its parts alone.

Every setting renders the same 8 channels with ``fv.render`` from the same seed, for 16, 32, 64 and 128 steps. The time
is that of the whole call per image, held-out scores included. The table divides the scores by those of the plain
render after the same number of steps, and shows the median of the 8 and the lowest. Scores are equal in every round.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, final

import torch

import featureviz as fv
from benchmarks.contenders.base import Task
from benchmarks.contenders.featureviz import wrap_network
from benchmarks.harness.options import Options, describe_task
from benchmarks.harness.rounds import Spread, compute_ratios, interleave, make_group, round_value
from benchmarks.harness.tables import format_number

LAYERS, STEPS = ("features.6", "features.12", "features.13"), (16, 32, 64, 128)
PLAIN = "plain"


def list_settings(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` by name; all but the preset change one thing."""
    plain = fv.plain(steps)
    return {
        PLAIN: plain,
        "fast()": plain | fv.fast(steps),
        "shorter momentum": plain | {"optimizer": fv.Adam(0.05, betas=(0.5, 0.999))},
        "cooldown": plain | {"optimizer": fv.Adam(fv.LinearCooldown(0.05))},
        "no redirection": plain | {"runtime": fv.Runtime(compile=False, redirect=0)},
    }


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    groups: dict[str, Any] = {}
    rounds, counts = options.choose_rounds(3), STEPS[:1] if options.quick else STEPS
    for layer in LAYERS[:1] if options.quick else LAYERS:
        task = options.make_task(layer=layer)
        model, objective = wrap_network(task), fv.Channel(layer, list(task.units))
        for warm_up in list_settings(8).values():
            fv.render(model, objective, **warm_up, size=task.size, progress=False)
        for steps in counts:
            renders = {
                name: TimedRender(model, objective, task, setting) for name, setting in list_settings(steps).items()
            }
            times = interleave(renders, rounds)
            facts = {"held-out scores": {name: timed.scores for name, timed in renders.items()}}
            groups[f"{layer}, {steps} steps"] = make_group(
                times, "s per image", baseline=PLAIN, task=describe_task(task), facts=facts
            )
    return {"settings": {"rounds": rounds}, "groups": groups}


@final
class TimedRender:
    """Renders with one setting when called and returns seconds per image; keeps one held-out score a unit."""

    def __init__(self, model: fv.TappedModel, objective: fv.Objective, task: Task, setting: dict[str, Any]) -> None:
        options = {"runtime": fv.Runtime(compile=False)} | setting
        self.render = partial(fv.render, model, objective, **options, size=task.size, progress=False)
        self.scores: list[float] = []

    def __call__(self) -> float:
        start = time.perf_counter()
        rendering = self.render()
        seconds = (time.perf_counter() - start) / len(rendering)
        self.scores = [round_value(v) or 0.0 for v in rendering.held_out.scores.mean(0).tolist()]
        return seconds


def make_table(result: dict[str, Any]) -> str:
    """For each setting: median score over the plain render's at equal steps; the lowest; time over the plain one's."""
    groups = result["groups"]
    layers, counts = (list(dict.fromkeys(title.split(", ")[i] for title in groups)) for i in (0, 1))
    lines = [
        f"| score over the plain render's; lowest; time | | {' | '.join(counts)} |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for layer in layers:
        row = [groups[f"{layer}, {steps}"] for steps in counts]
        for name in list_settings(1):
            lines.append(f"| {layer} | {name} | {' | '.join(_format_cell(group, name) for group in row)} |")
    return "\n".join(lines)


def _format_cell(group: dict[str, Any], name: str) -> str:
    scores = group["facts"]["held-out scores"]
    ratios = compute_ratios(scores[name], scores[PLAIN])
    score = format_number(Spread.from_values(ratios).median)
    return f"{score}; {format_number(min(ratios))}; {group['rows'][name]['ratio']['median']:.2f}"
