"""The folder of a gallery: tried before any work, and cleared of an earlier gallery before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, is_made_name, read_json, show_path

PAGE, REPORT, SHEET = "index.html", "report.json", "sheet.png"
TILES = "tiles"  # the folder of the pictures of cards
STYLE = "assets/style.css"  # of all pages


def prepare_folder(out: PathLike) -> Path:
    """The folder ``out``, if a gallery can be written there; nothing is changed.

    Raises:
        InvalidInput: it cannot be written to, or a file of a gallery's name there is no gallery's.
    """
    folder = check_writable(out)
    for name in (PAGE, REPORT, SHEET, STYLE):
        if os.path.isdir(folder / name):
            raise InvalidInput(f"{show_path(folder / name)} is a folder; give another folder (--out)")
    _read_report(folder)
    return folder


def clear_folder(folder: Path) -> None:
    """Remove an earlier gallery: its page with the style, and the tiles and pages that its report names.

    So no page ever stands beside tiles of another run. Files whose names were not made by this package stay.
    """
    named = [folder / name for name in _find_files(_read_report(folder))]
    values = [path.with_suffix(".npy") for path in named]  # of images that are neither grey nor coloured
    for path in (folder / PAGE, folder / STYLE, *named, *values, folder / SHEET, folder / REPORT):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise InvalidInput(f"cannot replace {show_path(path)}: {why}; give another folder (--out)") from error


def _read_report(folder: Path) -> dict[str, Any]:
    """The report of the gallery that is there, if one is."""
    path = folder / REPORT
    if not os.path.lexists(path):
        return {}
    try:
        report = read_json(path)
    except InvalidInput as error:
        raise InvalidInput(f"{error}; it is no report of a gallery: give another folder (--out)") from error
    if not isinstance(report.get("units", report.get("gates")), list):
        raise InvalidInput(f"{show_path(path)} is no report of a gallery; give another folder (--out)")
    return report


def _find_files(entry: Any) -> Iterator[str]:
    """The names of tiles and pages in a report, as far as this package made them."""
    todo = [entry]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo += item.values()
            yield from filter(_is_ours, (item.get("file"), item.get("page")))
        elif isinstance(item, list):
            todo += item


def _is_ours(name: Any) -> TypeGuard[str]:
    return isinstance(name, str) and is_made_name(name.removeprefix(f"{TILES}/"))
