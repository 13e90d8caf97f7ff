"""What a poster shows: a section for each layer, in which each unit is a column of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.tile import GATE
from featureviz.gallery.store.inline import count_units
from featureviz.gallery.store.reading import Gallery, StoredTile
from featureviz.lab.draw.canvas import COOL, GREY, WARM, Color

TONES = {1: WARM, -1: COOL}
PHOTOGRAPH = "photograph"  # the label of a row


@final
@dataclass(frozen=True)
class Row:
    """A row of pictures with one label: the file of each unit that has one."""

    label: str
    tone: Color
    files: Mapping[int, Path]


@final
@dataclass(frozen=True)
class Section:
    """A layer or a block, its units, and the rows of pictures below each other; ``values`` has each unit's figures."""

    name: str
    remark: str
    units: Sequence[int]
    rows: Sequence[Row]
    values: Mapping[int, Sequence[tuple[str, Color]]]


def list_sections(gallery: Gallery, photographs: bool) -> list[Section]:
    """A section for each layer that has a finished tile.

    Below the row of what excites is the row of what suppresses. The photographs that excite most are above, those that
    suppress most are below.
    """
    by_group: dict[tuple[str, str], list[StoredTile]] = {}
    for stored in gallery.tiles():
        by_group.setdefault(stored.tile.group, []).append(stored)
    found = list[Section]()
    for group in gallery.plan.groups:
        tiles = by_group.get(group.key, [])
        if tiles:
            units: dict[int, list[StoredTile]] = {}
            for stored in tiles:
                units.setdefault(stored.tile.unit, []).append(stored)
            rows = _list_rows(gallery.folder, group, tiles)
            if photographs:
                rows = _add_photographs(gallery, group, rows)
            values = {unit: _list_values(own) for unit, own in units.items()}
            found.append(Section(group.layer, count_units(group, len(units)), [*units], [*rows.values()], values))
    return found


def _list_rows(folder: Path, group: Group, tiles: Sequence[StoredTile]) -> dict[tuple[int, int], Row]:
    """A row for each sign and variant, what excites first."""
    labels = {1: "opens", -1: "closes"} if group.kind == GATE else {1: "excites", -1: "suppresses"}
    files: dict[tuple[int, int], dict[int, Path]] = {}
    for stored in tiles:
        tile = stored.tile
        files.setdefault((tile.sign, tile.variant), {})[tile.unit] = folder / tile.file
    order = sorted(files, key=lambda key: (-key[0], key[1]))
    return {key: Row(labels[key[0]], TONES[key[0]], files[key]) for key in order}


def _add_photographs(gallery: Gallery, group: Group, rows: dict[tuple[int, int], Row]) -> dict[tuple[int, int], Row]:
    """The rows with the most extreme photograph of each unit around them."""
    tops: dict[int, dict[int, Path]] = {1: {}, -1: {}}
    for unit, examples in gallery.examples(group).items():
        for example in examples:  # the most extreme first
            tops[example.sign].setdefault(unit, gallery.folder / example.photograph.file)
    signs = {sign for sign, _ in rows}
    above, below = (
        {(sign, -1): Row(PHOTOGRAPH, GREY, tops[sign])} if sign in signs and tops[sign] else {} for sign in (1, -1)
    )
    return above | rows | below


def _list_values(tiles: Sequence[StoredTile]) -> list[tuple[str, Color]]:
    """The value of a gate on the pictures of each sign, a mean where there are several."""
    found = list[tuple[str, Color]]()
    for sign, tone in TONES.items():
        values = [stored.figures.get("gate") for stored in tiles if stored.tile.sign == sign]
        known = [value for value in values if value is not None]
        if known:
            found.append((f"{sum(known) / len(known):.2f}", tone))
    return found
