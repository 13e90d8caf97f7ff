"""A list of objectives to tiles, a contact sheet, a report and a page; one batched render a layer."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from featureviz.ascent.runtime import Runtime
from featureviz.gallery.page import Card, Picture, write_page
from featureviz.gallery.tiles import rounded, writable, write_report, write_sheet, write_tile
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import as_objective, per_image
from featureviz.rendering import selection
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate
from featureviz.rendering.presets import STEPS
from featureviz.rendering.rendering import Rendering


def render_specs(
    model: TappedModel,
    goals: Sequence[Objective | str],
    out: str | os.PathLike[str],
    *,
    batch: int = 16,
    best_of: int = 1,
    title: str = "",
    **options: Any,
) -> Path:
    """Render every goal and write ``out/index.html`` with its tiles; returns the page.

    Goals that read the same layers share a batch, of at most ``batch`` images. ``options`` are those of
    ``entry``. Nothing is written before every render has ended; Ctrl-C writes what there is.
    """
    folder = writable(out)
    wanted = [single for goal in goals for single in _singles(as_objective(goal))]
    started = time.perf_counter()
    made: dict[int, tuple[Rendering, int]] = {}
    batches = [(rows, per_image([wanted[i] for i in rows])) for rows in _batches(wanted, batch)]
    for rows, goal in batches:  # a mistake in the last goal is known before the first is rendered
        evaluate(model, goal, model.noise_images(len(rows)), draws=1)
    runtimes = _runtimes(batches, **options)
    for rows, goal in batches:
        # All tiles have the number 0, so that a tile is the same in any gallery and any batch.
        how = options | {"image_ids": [0] * len(rows), "runtime": runtimes[goal.layers, len(rows)]}
        rendering = render(model, goal, **how) if best_of == 1 else selection.best_of(best_of, model, goal, **how)
        made |= {i: (rendering, row) for row, i in enumerate(rows[: len(rendering)])}
        if rendering.interrupted:
            break
    entries: list[dict[str, Any]] = []
    cards: list[Card] = []
    for i in sorted(made):
        rendering, row = made[i]
        spec = wanted[i].spec
        file = write_tile(folder, f"{i:03d} {spec}" if len(wanted) > 1 else spec, rendering, row)
        entry, figure = _figures(rendering, row)
        entries.append({"spec": spec, "file": file, **entry})
        cards.append(Card(spec, "", [Picture(file, "", figure)]))
    write_sheet(folder, [made[i][0].images[made[i][1]] for i in sorted(made)])
    seconds = time.perf_counter() - started
    recipe = next(iter(made.values()))[0].recipe
    shared = {k: v for k, v in recipe.items() if k not in ("spec", "steps done", "image_ids")}
    write_report(folder, {"recipe": shared, "seconds": round(seconds, 2), "units": entries})
    intro = [
        f"Each picture was made from noise by {recipe['steps']} steps of gradient ascent on"
        f" <strong>{escape(model.name)}</strong>; the figure is the score on 16 views that the ascent never saw."
    ]
    return write_page(folder, title or f"What excites {model.name}", intro, cards, _made_by(recipe), small=True)


def _singles(goal: Objective) -> list[Objective]:
    return [goal.goal(i) for i in range(goal.n)]


def _batches(goals: Sequence[Objective], size: int) -> list[list[int]]:
    """Their numbers, grouped by the layers they read, in groups of at most ``size``."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, goal in enumerate(goals):
        groups.setdefault(goal.layers, []).append(i)
    return [rows[at : at + size] for rows in groups.values() for at in range(0, len(rows), size)]


def _runtimes(
    batches: list[tuple[list[int], Objective]],
    runtime: Runtime | None = None,
    steps: int = STEPS,
    views: int = 1,
    **_options: Any,
) -> dict[tuple[Any, int], Runtime]:
    """How batches of these layers and so many images run: whether compiling pays is known of all of them together."""
    runtime, work = runtime or Runtime(), Counter[tuple[Any, int]]()
    for rows, goal in batches:
        work[goal.layers, len(rows)] += len(rows) * steps * views
    return {key: replace(runtime, compile=runtime.compiles(count)) for key, count in work.items()}


def _figures(rendering: Rendering, row: int) -> tuple[dict[str, Any], str]:
    scores = rendering.held_out.scores[:, row]
    gates = rendering.held_out.gates[row]
    entry: dict[str, Any] = {"score": rounded(scores), "steps": rendering.recipe_of(row)["steps done"]}
    if not gates:
        return entry, f"{scores.mean():.3g}"
    entry["gates"] = {spec: rounded(values) for spec, values in gates.items()}
    return entry, ", ".join(f"gate {values.mean():.3f}" for values in gates.values())


def _made_by(recipe: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in recipe["versions"].items())
    return f"{versions}; seed {recipe['seed']}, {recipe['size']} px, {recipe['optimizer']}. Figures: report.json."
