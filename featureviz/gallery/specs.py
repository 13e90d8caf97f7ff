"""Many objectives as one gallery, with one batched render for the objectives of a layer."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featureviz.ascent.runtime import Runtime
from featureviz.errors import InvalidInput
from featureviz.files import write_json
from featureviz.gallery.folder import PAGE, REPORT, STYLE, clear_folder, prepare_folder
from featureviz.gallery.site.pages import write_assets, write_page
from featureviz.gallery.tiles import get_shared, to_json, write_sheet, write_tile
from featureviz.image.picture import is_picture
from featureviz.image.start import Start, start_images
from featureviz.naming import quote_layer
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import as_objective, merge_per_image
from featureviz.rendering import selection
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate
from featureviz.rendering.presets import STEPS
from featureviz.rendering.rendering import Rendering

Tiles = dict[int, tuple[Rendering, int]]  # the number of a goal to its rendering and its row there


def expand_specs(model: TappedModel, texts: Sequence[str], units: Sequence[int] | None = None) -> list[str]:
    """Specs in which a layer, or a gated block, is replaced by one spec for each of its units.

    Args:
        model: the network.
        texts: ``"features.6"``, ``"gate:features.9.block.2"``, both also with a leading minus; specs stay as they are.
        units: of the layers and blocks only these units.

    Raises:
        InvalidInput: a layer or a block has not all of the ``units``.

    >>> import featureviz as fv
    >>> expand_specs(fv.load("embedded"), ["-gate:features.9.block.2", "features.6:3"], range(2))
    ['-gate:features.9.block.2:0', '-gate:features.9.block.2:1', 'features.6:3']
    """
    counts: dict[str, tuple[str, int]] = {}  # what a text may name: its spec without a unit, and how many it has
    for layer in model.layers():
        if layer.units:
            quoted = quote_layer(layer.name)
            counts[layer.name] = counts[quoted] = quoted, layer.units
    for name, site in model.gates.items():
        quoted = f"gate:{quote_layer(name)}"
        counts[f"gate:{name}"] = counts[quoted] = quoted, site.channels
    specs: list[str] = []
    for text in map(str.strip, texts):
        named = text.removeprefix("-")
        if named not in counts:
            specs.append(text)
            continue
        spec, count = counts[named]
        missing = next((unit for unit in units or () if not 0 <= unit < count), None)
        if missing is not None:
            raise InvalidInput(f"unit {missing} of {named!r} was asked for; it has {count}: 0 to {count - 1}")
        minus = "-" if text.startswith("-") else ""
        specs += [f"{minus}{spec}:{unit}" for unit in (range(count) if units is None else units)]
    return specs


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
    """Render every goal and write a gallery of them; returns ``out/index.html``.

    Nothing is written before every render has ended; then an earlier gallery in the folder is removed. After Ctrl-C
    the images are written as they are then, the page and the report say how many steps each had, and
    ``KeyboardInterrupt`` is raised.

    Args:
        model: the network.
        goals: objectives or specs; one of several images gives several tiles.
        out: the folder of the gallery.
        batch: the largest number of images in a render; goals that read the same layers share one.
        best_of: from how many renders the best image is kept.
        title: of the page.
        options: those of ``fv.render``.

    Raises:
        InvalidInput: the folder cannot be written to, or holds a report that is no gallery's.
    """
    folder, started = prepare_folder(out), time.perf_counter()
    singles = [goal.select([i]) for goal in map(as_objective, goals) for i in range(goal.n)]
    tiles = _render_tiles(model, singles, batch, best_of, options)
    cut_short = any(rendering.interrupted for rendering, _ in tiles.values())
    clear_folder(folder)
    write_assets(folder, STYLE)
    entries = [_write_entry(folder, i, singles, *tile) for i, tile in tiles.items()]
    write_sheet(folder, [rendering.on_white()[row] for rendering, row in tiles.values()])
    recipe = next(iter(tiles.values()))[0].recipe
    seconds = round(time.perf_counter() - started, 2)
    about = {"recipe": get_shared(recipe), "seconds": seconds, "interrupted": cut_short, "planned": len(singles)}
    write_json(folder / REPORT, {**about, "units": to_json(entries)})
    page = write_page(
        folder / PAGE, "renders.html", **about, units=to_json(entries), model=model.name,
        title=title or f"What excites {model.name}", start=_describe_start(options.get("image")),
    )  # fmt: skip
    if cut_short:
        raise KeyboardInterrupt(f"{page} shows {len(tiles)} of {len(singles)} pictures as they were then")
    return page


def _write_entry(folder: Path, i: int, goals: Sequence[Objective], rendering: Rendering, row: int) -> dict[str, Any]:
    """Write the tile of a goal; returns its entry in the report."""
    spec, recipe = goals[i].spec, rendering.recipe_of(row)
    file = write_tile(folder, f"{i:03d} {spec}" if len(goals) > 1 else spec, rendering, row)
    return {
        "spec": spec, "file": file, "seed": recipe["seed"], "steps": recipe["steps done"],
        "moved": "unmoved" not in recipe, "score": rendering.held_out.scores[:, row],
        "gates": rendering.held_out.gates[row],
        "unseen": {kind: scores[row] for kind, scores in rendering.held_out.unseen.items()},
    }  # fmt: skip


def _describe_start(image: Start) -> str:
    """From what the ascent began, in words; nothing for what has no name."""
    return "a picture" if is_picture(image) else "noise" if image is None else ""


def _render_tiles(
    model: TappedModel, goals: Sequence[Objective], size: int, best_of: int, options: dict[str, Any]
) -> Tiles:
    """All goals, batch after batch, sorted by their numbers; after Ctrl-C those that are done."""
    batches = [(rows, merge_per_image([goals[i] for i in rows])) for rows in _split_by_layers(goals, size)]
    for rows, goal in batches:  # so that a mistake in the last goal is found before the first render
        evaluate(model, goal, _probe(model, len(rows), options.get("image")), draws=1)
    runtime, work, tiles = options.get("runtime") or Runtime(), Counter[tuple[Any, int]](), Tiles()
    for rows, goal in batches:  # all batches of a kind together decide whether to compile
        work[goal.layers, len(rows)] += len(rows) * options.get("steps", STEPS) * options.get("views", 1)
    for rows, goal in batches:
        # All images have the number 0, so that a tile does not depend on its place in the gallery.
        own_runtime = replace(runtime, compile=runtime.compiles(work[goal.layers, len(rows)]))
        own = options | {"image_ids": [0] * len(rows), "runtime": own_runtime}
        rendering = render(model, goal, **own) if best_of == 1 else selection.best_of(best_of, model, goal, **own)
        tiles |= {i: (rendering, row) for row, i in enumerate(rows[: len(rendering)])}
        if rendering.interrupted:
            break
    return dict(sorted(tiles.items()))


def _probe(model: TappedModel, n: int, image: Start) -> Tensor:
    """``n`` images of noise; with transparency, if those that are rendered from ``image`` have it."""
    noise = model.noise_images(n)
    alpha = not is_picture(image) and start_images(image, 1, 8, channels=model.channels).alpha
    return torch.cat([noise, noise[:, :1]], 1) if alpha else noise


def _split_by_layers(goals: Sequence[Objective], size: int) -> list[list[int]]:
    """The numbers of the goals, at most ``size`` of the same layers together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, goal in enumerate(goals):
        groups.setdefault(goal.layers, []).append(i)
    return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]
