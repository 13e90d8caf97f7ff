"""A gallery in a notebook: some units of each layer as HTML that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from featureviz.files import show_path
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.plan import Plan
from featureviz.gallery.planning.tile import GATE, Tile
from featureviz.gallery.tiles import encode_jpeg
from featureviz.image.picture import cover, read_picture

PICTURES, SIDE, QUALITY = 36, 104, 80  # how many, the pixels of their longer side, and how well JPEG keeps them
PAIRS = " What excites a unit is at the left, what suppresses it at the right."
_SOFT = "opacity:.65"

Finished = tuple[Tile, Mapping[str, Any]]  # a tile, and its figures


def draw_inline(folder: Path, plan: Plan, finished: Sequence[Finished]) -> str:
    """HTML with the first units of each layer, the same number of each, and what else there is and where.

    Tiles are small JPEGs in the page itself. Names are escaped, and bytes of a name that are not UTF-8 are written out.
    """
    by_group: dict[tuple[str, str], dict[int, list[Finished]]] = {}
    for tile, figures in finished:
        by_group.setdefault(tile.group, {}).setdefault(tile.unit, []).append((tile, figures))
    groups = [group for group in plan.groups if group.key in by_group]
    of_unit = max((len(tiles) for units in by_group.values() for tiles in units.values()), default=1)
    share = max(1, PICTURES // max(1, len(groups) * of_unit))
    parts, shown = list[str](), 0
    for group in groups[:PICTURES]:
        units = list(by_group[group.key].items())
        parts.append(_draw_group(folder, group, units[:share], len(units)))
        shown += min(share, len(units))
    total = sum(map(len, by_group.values()))
    both = {tile.sign for tile, _ in finished} == {1, -1}
    said = f"{len(finished):,} of {len(plan):,} pictures are finished.{PAIRS if both else ''}"
    head = f"<b>{escape(plan.model)}</b> {_soft(said)}"
    more = "" if shown == total else f"{shown} of {total:,} units are shown; .select(layers, units=...) shows others. "
    index = folder / "index.html"
    pages = f"The pages: {show_path(index.absolute())}" if index.is_file() else ""
    text = (
        f'<div style="font:14px/1.4 system-ui,sans-serif"><div>{head}</div>{"".join(parts)}'
        f'<div style="margin-top:10px">{_soft(more + pages)}</div></div>'
    )
    return text.encode(errors="backslashreplace").decode()


def count_units(group: Group, count: int) -> str:
    """How many units of a group are shown, of how many.

    >>> count_units(Group("gate", "a.se", "SE", 72, ()), 16)
    'SE, 16 of 72 gates'
    """
    noun = "gate" if group.kind == GATE else "channel"
    counted = f"{group.count:,}" if count == group.count else f"{count:,} of {group.count:,}"
    return f"{group.type}, {counted} {noun}{'' if group.count == 1 else 's'}"


def _draw_group(folder: Path, group: Group, units: Sequence[tuple[int, list[Finished]]], total: int) -> str:
    figures = "".join(_draw_unit(folder, unit, tiles) for unit, tiles in units)
    return (
        f'<div style="margin:12px 0 6px"><b>{escape(group.layer)}</b> {_soft(count_units(group, total))}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px">{figures}</div>'
    )


def _draw_unit(folder: Path, unit: int, tiles: Sequence[Finished]) -> str:
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{_shrink(folder / tile.file)}" alt="{escape(tile.spec)}"'
        f' title="{escape(tile.spec)}" style="display:block">'
        for tile, _ in tiles
    )
    gates = [f"{figures['gate']:.2f}" for _, figures in tiles if figures.get("gate") is not None]
    said = f"{unit} {_soft(' / '.join(gates))}" if gates else str(unit)
    return f'<figure style="margin:0"><div style="display:flex;gap:2px">{pictures}</div>{said}</figure>'


def _shrink(path: Path) -> str:
    """A picture as a small JPEG in base64."""
    picture = read_picture(path)
    height, width = picture.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    small = cover(picture[None], (max(1, round(height * scale)), max(1, round(width * scale))))[0]
    return base64.b64encode(encode_jpeg(small, QUALITY)).decode()


def _soft(text: str) -> str:
    return f'<span style="{_SOFT}">{escape(text)}</span>' if text else ""
