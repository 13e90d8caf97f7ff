"""A gallery's folder as what its pages show."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from featureviz.files import make_file_name
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.tile import GATE, Tile
from featureviz.gallery.site.plot_axis import merge_bins
from featureviz.gallery.site.views import Atlas, Layer, Picture, Unit
from featureviz.gallery.store.reading import PHOTOGRAPHS, Example, Gallery, StoredTile
from featureviz.naming import quote_layer

CARDS = "cards"  # where gate cards stand beside a gallery
LAYERS, UNITS = "layers", "units"


def read_atlas(gallery: Gallery) -> Atlas:
    """All that the pages show. A tile counts as missing if its file is not there."""
    there = {path.relative_to(gallery.folder).as_posix() for path in _walk(gallery.folder)}
    planned, made = defaultdict[tuple[str, str], list[Tile]](list), defaultdict[tuple[str, str], list[StoredTile]](list)
    for tile in gallery.plan.tiles:
        planned[tile.group].append(tile)
    for stored in gallery.tiles():
        if stored.tile.file in there:
            made[stored.tile.group].append(stored)
    layers = []
    for group in gallery.plan.groups:
        if planned[group.key]:
            layers.append(_read_layer(gallery, group, planned[group.key], made[group.key], there))
    height, width = gallery.plan.recipe.text["size"]
    recipe, photograph = gallery.plan.recipe.text, _find_size(gallery.folder, there)
    return Atlas(gallery.plan.model, recipe, gallery.about, layers, (height, width), photograph)


def name_unit(group: Group, number: int) -> str:
    """The unit as a spec writes it."""
    return f"{'gate:' if group.kind == GATE else ''}{quote_layer(group.layer)}:{number}"


def _read_layer(
    gallery: Gallery, group: Group, planned: Iterable[Tile], made: Iterable[StoredTile], there: set[str]
) -> Layer:
    natural = {unit: _read_natural(figures) for unit, figures in gallery.natural(group).items()}
    examples, alike = gallery.examples(group), gallery.neighbours(group)
    levels = gallery.about.get("natural", {}).get("levels", [])
    signs, pictures = defaultdict[int, list[int]](list), defaultdict[int, list[Picture]](list)
    for tile in planned:
        signs[tile.unit].append(tile.sign)
    for stored in made:
        unit = stored.tile.unit
        pictures[unit].append(_read_picture(stored, name_unit(group, unit), natural.get(unit, {}), levels))
    units = []
    for number, own in signs.items():
        name = name_unit(group, number)
        card = f"{CARDS}/{make_file_name(name, '.html')}"
        units.append(Unit(
            group.kind, number, name, f"{UNITS}/{make_file_name(f'{group.kind} {name}', '.html')}", own,
            pictures[number], natural.get(number, {}), [e for e in examples.get(number, []) if _is_there(e, there)],
            [(n.unit, n.how, n.similarity) for n in alike.get(number, [])], card if card in there else "",
        ))  # fmt: skip
    return Layer(group, f"{LAYERS}/{make_file_name(f'{group.kind} {group.layer}', '.html')}", units)


def _read_natural(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are known; the histogram from its first photograph to its last, with bins that are not rare."""
    known = _drop_unknown(figures)
    bins = known.pop("histogram", None)
    if bins and any(bins["counts"]) and bins["width"] > 0:
        known["histogram"] = merge_bins(bins["start"], bins["width"], bins["counts"])
    return known


def _drop_unknown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A store writes None for what is not finite."""
    return {key: value for key, value in figures.items() if value is not None}


def _read_picture(stored: StoredTile, name: str, natural: Mapping[str, Any], levels: Sequence[float]) -> Picture:
    tile, figures = stored.tile, _drop_unknown(stored.figures)
    figures["unseen"] = _drop_unknown(figures.get("unseen", {}))
    value = figures.get("logit")
    if value is None and tile.spec.removeprefix("-") == name and "score" in figures:
        value = tile.sign * figures["score"]
    quantiles = natural.get("quantiles", [])
    whole = quantiles and len(quantiles) == len(levels) and None not in quantiles
    standing = find_standing(levels, quantiles, value) if value is not None and whole else None
    trace = [score for score in stored.trace if math.isfinite(score)]
    return Picture(tile.file, tile.sign, tile.variant, tile.spec, figures, trace, value, standing)


def find_standing(levels: Sequence[float], quantiles: Sequence[float], value: float) -> float:
    """The percentile of a value among photographs, of which the quantiles at ``levels`` are known.

    The first and the last quantile are the smallest and the largest value; 0 and 100 mean beyond them.

    >>> find_standing([0.0, 0.5, 1.0], [-1.0, 0.0, 4.0], 2.0), find_standing([0.0, 0.5, 1.0], [-1.0, 0.0, 4.0], 4.1)
    (75.0, 100.0)
    """
    if value < quantiles[0] or value > quantiles[-1]:
        return 0.0 if value < quantiles[0] else 100.0
    return min(max(100 * float(np.interp(value, quantiles, levels)), 0.01), 99.99)


def _is_there(example: Example, there: set[str]) -> bool:
    return example.photograph.file in there


def _walk(folder: Path) -> Iterable[Path]:
    """The files of tiles, photographs and cards."""
    for name in ("tiles", PHOTOGRAPHS, CARDS):
        for root, _, files in os.walk(folder / name):
            yield from (Path(root, file) for file in files)


def _find_size(folder: Path, there: Iterable[str]) -> tuple[int, int]:
    """Height and width of the photographs, which are all as the network reads them."""
    first = next((name for name in there if name.startswith(f"{PHOTOGRAPHS}/")), None)
    if first is None:
        return 1, 1
    height, width, *_ = iio.improps(folder / first).shape
    return height, width
