"""A gallery that no network made: names, tiles, photographs and figures that only the pages read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from featureviz.files import write_bytes
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.plan import Plan, list_tiles
from featureviz.gallery.planning.recipe import Recipe
from featureviz.gallery.planning.tile import CHANNEL, GATE, Tile
from featureviz.gallery.site.reading import name_unit
from featureviz.gallery.store.index import to_text
from featureviz.gallery.store.reading import Photograph
from featureviz.gallery.store.writing import Made, Store
from featureviz.lab.statistics.gate_statistics import LEVELS

SIZE, PHOTOGRAPHS = 32, 8


def draw_picture(seed: int, suffix: str = ".png", size: int = SIZE) -> bytes:
    """A picture of a few smooth colours."""
    few = np.random.default_rng(seed).uniform(0, 255, (4, 4, 3))
    pixels = np.kron(few, np.ones((size // 4, size // 4, 1))).astype(np.uint8)
    return iio.imwrite("<bytes>", pixels, extension=suffix)


def make_plan(
    groups: Sequence[Group], shown: int, *, model: str = "TinyNet", variants: int = 1, signs: Sequence[int] = (1, -1)
) -> Plan:
    """A plan of the first ``shown`` units of each group."""
    recipe = Recipe.make("fast", size=SIZE, steps=8)
    goals = [
        (group, unit, sign, f"{'-' if sign < 0 else ''}{name_unit(group, unit)}")
        for group in groups for unit in range(min(shown, group.count)) for sign in signs
    ]  # fmt: skip
    return Plan(model, "0" * 32, recipe, tuple(groups), list_tiles(model, recipe, goals, variants))


def fill_gallery(
    folder: Path, plan: Plan, *, finished: float = 1.0, photographs: Sequence[str] = (),
    draw: Callable[[int], bytes] = draw_picture,
) -> Path:  # fmt: skip
    """Write a part of the tiles of a plan; with names of ``photographs``, also what was measured on them."""
    with Store.hold(folder, plan) as store:
        tiles = plan.tiles[: round(finished * len(plan))]
        store.add(Made(tile.key, draw(i), **_invent_figures(i, tile)) for i, tile in enumerate(tiles))
        store.note("run", {"featureviz": "0", "torch": "0"})
        if photographs:
            _add_photographs(store, plan, photographs)
    return folder


def _invent_figures(i: int, tile: Tile) -> dict[str, Any]:
    made = random.Random(i)
    score = made.uniform(1, 12)
    figures: dict[str, Any] = {"score": score, "sd": score / 9, "steps": 8, "moved": i % 97 != 5}
    figures["unseen"] = {"jpeg": 0.9 * score, "blur": 0.8 * score, "crop": 0.7 * score}
    if tile.kind == GATE:
        figures |= {"logit": tile.sign * score, "gate": min(max(tile.sign * score / 6 + 0.5, 0), 1)}
    trace = tuple(score * (1 - 0.95 * 0.8**step) + made.uniform(0, 0.3) for step in range(24))
    return {"figures": figures, "trace": trace, "seconds": 0.1}


def _add_photographs(store: Store, plan: Plan, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        write_bytes(store.folder / Photograph(number, name).file, draw_picture(number, ".jpg", 64))
    store.insert("photographs", [(number, to_text(name)) for number, name in enumerate(names)])
    store.note("natural", {"count": 400, "levels": list(LEVELS), "skipped": 0})
    units, examples, neighbours, made = [], [], [], random.Random(0)
    shown = dict.fromkeys((tile.kind, tile.layer, tile.unit) for tile in plan.tiles)
    for kind, layer, unit in shown:
        row = (kind, to_text(layer), unit)
        values = np.random.default_rng(unit).normal(0, 2.0 + unit % 3, 400)
        counts, edges = np.histogram(values, 30)
        bins = {"start": float(edges[0]), "width": float(edges[1] - edges[0]), "counts": counts.tolist()}
        figures = {"mean": float(values.mean()), "sd": float(values.std()), "histogram": bins}
        units.append((*row, to_text(figures | {"quantiles": np.quantile(values, LEVELS).tolist()})))
        for sign in (1, -1):
            for rank in range(min(6, len(names))):
                y, x, side = made.uniform(0, 0.5), made.uniform(0, 0.5), made.uniform(0.3, 0.5)
                box = [y, x, y + side, x + side] if kind == CHANNEL else [0, 0, 1, 1]
                number = (unit + rank * (2 + sign)) % len(names)
                examples.append((*row, sign, rank, number, sign * (8 - rank), to_text(box)))
        others = [u for k, la, u in shown if (k, la) == (kind, layer) and u != unit]
        for how in ("photographs", "weights"):
            chosen = made.sample(others, min(6, len(others)))
            neighbours += [(*row, how, rank, other, 0.9 - rank / 10) for rank, other in enumerate(chosen)]
    store.insert("units", units)
    store.insert("examples", examples)
    store.insert("neighbours", neighbours)
