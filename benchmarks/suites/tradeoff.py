"""Held-out score against seconds: the plain render, the preset, and each shortcut by itself.

Every setting renders the same 8 channels with ``fv.render``, from the same seed, for 16, 32, 64 and 128 steps; the time
is the whole call's, per image, its own judging included. Scores are held-out ones, divided by what the plain render
has at the same number of steps; the median of the 8 is told, and the lowest.
"""

from __future__ import annotations

import time
from typing import Any

import torch

import featureviz as fv
from benchmarks.contenders.featureviz import wrapped
from benchmarks.options import Options, told
from benchmarks.rounds import Spread, group, ratios, rounded
from benchmarks.tables import number
from featureviz.ascent import adam

LAYERS, STEPS = ("features.6", "features.12", "features.13"), (16, 32, 64, 128)
PLAIN = "plain"


def settings(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` by name; all but the preset change one thing."""
    return {
        PLAIN: {"steps": steps},
        "fast()": fv.fast(steps),
        "shorter momentum": {"steps": steps, "optimizer": adam(0.05, betas=(0.5, 0.999))},
        "landing": {"steps": steps, "lr": fv.Landing(0.05)},
        "coarse to fine": {"steps": steps, "coarse": [(steps // 4, 0.5), (steps // 4, 0.75)]},
        "no redirection": {"steps": steps, "redirect": 0},
    }


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    groups: dict[str, Any] = {}
    counts = STEPS[:1] if options.quick else STEPS
    for layer in LAYERS[:1] if options.quick else LAYERS:
        task = options.task(layer=layer)
        model, goal = wrapped(task), fv.Channel(layer, list(task.units))
        for warm_up in settings(8).values():
            fv.render(model, goal, **warm_up, size=task.size, progress=False)
        for steps in counts:
            taken: dict[str, list[float | None] | str] = {}
            scores: dict[str, list[float]] = {}
            for name, setting in settings(steps).items():
                started = time.perf_counter()
                made = fv.render(model, goal, **setting, size=task.size, compile=False, progress=False)
                taken[name] = [(time.perf_counter() - started) / len(made)]
                scores[name] = [rounded(v) or 0.0 for v in made.held_out.scores.mean(0).tolist()]
            facts = {"held-out scores": scores}
            groups[f"{layer}, {steps} steps"] = group(
                taken, "s per image", baseline=PLAIN, task=told(task), facts=facts
            )
    return {"settings": {"rounds": 1}, "groups": groups}


def table(result: dict[str, Any]) -> str:
    """For each setting, what its score is of the plain one's at equal steps, the lowest, and its share of the time."""
    groups = result["groups"]
    lines = [
        f"| score over the plain render's; lowest; time | {' | '.join(groups)} |",
        "|---" * (len(groups) + 1) + "|",
    ]
    for name in next(iter(groups.values()))["rows"]:
        cells = []
        for made in groups.values():
            scores = made["facts"]["held-out scores"]
            of = ratios(scores[name], scores[PLAIN])
            share = made["rows"][name].get("ratio", {"median": 1.0})["median"]
            cells.append(f"{number(Spread.of(of).median)}; {number(min(v for v in of if v is not None))}; {share:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
