"""The pages of a whole gallery, from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, is_made_name, show_path
from featureviz.gallery.folder import PAGE, STYLE
from featureviz.gallery.site.pages import write_assets, write_file, write_page
from featureviz.gallery.site.reading import LAYERS, UNITS, read_atlas
from featureviz.gallery.site.views import Atlas
from featureviz.gallery.site.words import make_visible
from featureviz.gallery.store.reading import Gallery

SCRIPT, SEARCH, COMPARE = "assets/gallery.js", "assets/search.js", "compare.html"

T = TypeVar("T")


def build_site(folder: PathLike) -> Path:
    """Write the pages of the gallery in ``folder``, finished or not; returns ``folder/index.html``.

    There is an overview of the network, a page for each layer and block with a sheet of its units, a page for each
    unit, and one that shows two units side by side. They open from disk and from any web host, and need no address
    outside. Pages of units that are no longer in the plan are removed.

    Raises:
        InvalidInput: there is no gallery in the folder, or the pages cannot be written there.
    """
    gallery = Gallery.open(folder)
    out, atlas = check_writable(gallery.folder), read_atlas(gallery)
    common: dict[str, Any] = {"atlas": atlas, "natural": atlas.about.get("natural")}
    write_assets(out, STYLE, SCRIPT)
    write_file(out / SEARCH, _list_names(atlas))
    for before, layer, after in with_neighbours(atlas.layers):
        beside = {"layer": layer, "root": "../"}
        write_page(out / layer.page, "layer.html", **common, **beside, before=before, after=after)
        for last, unit, next_one in with_neighbours(layer.units):
            write_page(out / unit.page, "unit.html", **common, **beside, unit=unit, before=last, after=next_one)
    write_page(out / COMPARE, "compare.html", **common)
    _remove_others(out, {layer.page for layer in atlas.layers} | {u.page for la in atlas.layers for u in la.units})
    return write_page(out / PAGE, "overview.html", **common)


def with_neighbours(items: Sequence[T]) -> Iterator[tuple[T | None, T, T | None]]:
    """Each item between the one before and the one after; None where there is none.

    >>> list(with_neighbours("ab"))
    [(None, 'a', 'b'), ('a', 'b', None)]
    """
    for i, item in enumerate(items):
        yield items[i - 1] if i else None, item, items[i + 1] if i + 1 < len(items) else None


def _list_names(atlas: Atlas) -> bytes:
    """The names of layers and units for the search, as a script that only holds data."""
    layers = [[make_visible(layer.group.layer), layer.page, layer.is_gate] for layer in atlas.layers]
    units = []
    for i, layer in enumerate(atlas.layers):
        for unit in layer.units:
            first = next(iter(unit.pictures), None)
            units.append([i, unit.number, make_visible(unit.name), unit.page, first.file if first else ""])
    return f"window.galleryNames = {json.dumps({'layers': layers, 'units': units})};\n".encode()


def _remove_others(folder: Path, pages: set[str]) -> None:
    """Remove pages of an earlier plan; files whose names were not made by this package stay."""
    for name in (LAYERS, UNITS):
        for path in (folder / name).glob("*.html"):
            if f"{name}/{path.name}" not in pages and is_made_name(path.name):
                try:
                    path.unlink()
                except OSError as error:
                    raise InvalidInput(f"cannot remove {show_path(path)}: {error.strerror}; remove it") from error
