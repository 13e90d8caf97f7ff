"""Two models side by side: the units that two galleries have in common."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, show_path
from featureviz.gallery.folder import PAGE, STYLE
from featureviz.gallery.planning.plan import MANIFEST
from featureviz.gallery.site.build import SCRIPT, with_neighbours
from featureviz.gallery.site.pages import write_assets, write_page
from featureviz.gallery.site.reading import read_atlas
from featureviz.gallery.site.views import Atlas, Layer, Unit, spread_evenly
from featureviz.gallery.site.words import format_figure
from featureviz.gallery.store.reading import Gallery

SIDES = ("first", "second")  # the folders of the two models' pictures


class Shot(NamedTuple):
    """A copied picture."""

    file: str


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """A unit of both models, and of each its first picture by sign."""

    units: tuple[Unit, Unit]

    @property
    def number(self) -> int:
        return self.units[0].number

    @property
    def name(self) -> str:
        return self.units[0].name

    @cached_property
    def shots(self) -> list[dict[int, Shot]]:
        """The copies of the pictures."""
        return [
            {p.sign: Shot(f"{side}/{p.file}") for p in unit.pictures if p.variant == 0}
            for side, unit in zip(SIDES, self.units, strict=True)
        ]

    @cached_property
    def _values(self) -> list[float | None]:
        """The unit's values on the pictures that excite it."""
        firsts = [unit.first(1) or unit.first(-1) for unit in self.units]
        return [p.value if p else None for p in firsts]

    @property
    def values(self) -> list[str]:
        return ["\N{EN DASH}" if value is None else format_figure(value) for value in self._values]

    @property
    def orders(self) -> dict[str, float]:
        """What the units can be sorted by; what is not known is left out."""
        known = {name: value for name, value in zip(SIDES, self._values, strict=True) if value is not None}
        return known | ({"difference": abs(known["first"] - known["second"])} if len(known) == 2 else {})


@final
@dataclass(frozen=True, eq=False)
class CommonLayer:
    """A layer of both models with the units that both galleries show."""

    name: str
    is_gate: bool
    page: str
    signs: Sequence[int]
    pairs: Sequence[Pair]

    def sample(self, count: int) -> list[Pair]:
        """At most ``count`` units that have pictures, evenly over the layer."""
        return spread_evenly([pair for pair in self.pairs if all(pair.shots)], count)


def build_comparison(first: PathLike, second: PathLike, out: PathLike) -> Path:
    """Write pages that show two models side by side; returns ``out/index.html``.

    They show the units that both galleries have: those of the same layer, kind and number. The pictures are copied, so
    that ``out`` does not need the galleries.

    Args:
        first: the folder of a gallery.
        second: the folder of another one, of the same or of another model.
        out: the folder to write to; not that of a gallery.

    Raises:
        InvalidInput: a folder holds no gallery; they have no unit in common; ``out`` is a gallery's or cannot be
            written.
    """
    atlases = [read_atlas(Gallery.open(folder)) for folder in (first, second)]
    folder = check_writable(out)
    if os.path.lexists(folder / MANIFEST):
        raise InvalidInput(f"{show_path(folder)} holds a gallery; give another folder (--out)")
    layers = _find_common(*atlases)
    if not layers:
        names = " and ".join(repr(atlas.model) for atlas in atlases)
        raise InvalidInput(f"the galleries of {names} have no unit in common: the same layer, kind and number")
    for source, side in zip((first, second), SIDES, strict=True):
        _copy_pictures(Path(source), folder, side, layers)
    common: dict[str, Any] = {
        "models": _name_apart(atlases, (first, second)), "layers": layers, "sizes": [atlas.size for atlas in atlases],
        "count": sum(len(layer.pairs) for layer in layers),
    }  # fmt: skip
    write_assets(folder, STYLE, SCRIPT)
    for before, layer, after in with_neighbours(layers):
        write_page(folder / layer.page, "models_layer.html", "../", **common, layer=layer, before=before, after=after)
    return write_page(folder / PAGE, "models.html", **common)


def _find_common(one: Atlas, two: Atlas) -> list[CommonLayer]:
    others = {layer.group.key: layer for layer in two.layers}
    found = []
    for layer in one.layers:
        other = others.get(layer.group.key)
        pairs = _pair_units(layer, other) if other else []
        if other and pairs:
            signs = sorted({*layer.signs, *other.signs}, reverse=True)
            found.append(CommonLayer(layer.group.layer, layer.is_gate, layer.page, signs, pairs))
    return found


def _pair_units(layer: Layer, other: Layer) -> list[Pair]:
    theirs = other.by_number
    return [Pair((unit, theirs[unit.number])) for unit in layer.units if unit.number in theirs]


def _copy_pictures(source: Path, folder: Path, side: str, layers: Sequence[CommonLayer]) -> None:
    place = SIDES.index(side)
    for shot in (shot for layer in layers for pair in layer.pairs for shot in pair.shots[place].values()):
        target = folder / shot.file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / shot.file.removeprefix(f"{side}/"), target)
        except OSError as error:
            raise InvalidInput(f"cannot copy to {show_path(target)}: {error.strerror}; give another folder") from error


def _name_apart(atlases: Sequence[Atlas], folders: Sequence[PathLike]) -> list[str]:
    """The names of the models, with those of the folders where they are the same."""
    names = [atlas.model for atlas in atlases]
    if names[0] != names[1]:
        return names
    return [f"{name} ({Path(folder).name})" for name, folder in zip(names, folders, strict=True)]
