"""Writing a gallery: the manifest first, then tile after tile, each whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, remove_leftovers, show_path, write_bytes
from featureviz.gallery.planning.plan import MANIFEST, Plan
from featureviz.gallery.planning.tile import FOLDER, Tile
from featureviz.gallery.store.index import (
    INDEX,
    PHOTOGRAPHS,
    from_text,
    open_index,
    pack_numbers,
    telling,
    to_text,
)  # fmt: skip
from featureviz.gallery.store.lock import locked


@final
@dataclass(frozen=True)
class Made:
    """A rendered tile.

    ``png`` is the file with its recipe, ``figures`` what was measured of it as JSON values, ``trace`` the score at
    each step, ``seconds`` its share of the time of its batch.
    """

    key: str
    png: bytes
    figures: Mapping[str, Any]
    trace: tuple[float, ...]
    seconds: float


@final
class Store:
    """The folder of one gallery, held by this process."""

    def __init__(self, folder: Path, plan: Plan, connection: sqlite3.Connection) -> None:
        self.folder, self.plan, self._connection = folder, plan, connection
        self._tiles = {tile.key: tile for tile in plan.tiles}
        self._opened = os.stat(folder / INDEX)

    @classmethod
    @contextmanager
    def hold(cls, folder: PathLike, plan: Plan) -> Iterator[Store]:
        """Open a new gallery in ``folder``, or the one that is there, if ``plan`` holds all of its tiles.

        What a killed run left unfinished is removed.

        Raises:
            InvalidInput: the folder cannot be written to, another process writes to it, or it holds a gallery of which
                the plan would lose tiles.
        """
        path = check_writable(folder)
        _make_folder(path)
        with locked(path):
            there = _read_plan(path)
            if there is not None:
                _check_same(path, there, plan)
            _make_folder(path / FOLDER)
            for written in (path, path / PHOTOGRAPHS, *(path / FOLDER).glob("*")):
                remove_leftovers(written)
            with closing(open_index(path, write=True)) as connection:
                # Last, so that a folder with a plan has an index: readers need both.
                if there != plan:
                    plan.write(path / MANIFEST)
                yield cls(path, plan, connection)

    def missing(self) -> list[Tile]:
        """The tiles that are not finished, or whose file or row is not what was written.

        Raises:
            InvalidInput: a folder is in the place of a tile.
        """
        rows = {key: row for key, *row in self._read("SELECT key, sha256, figures, trace, seconds FROM tiles")}
        return [tile for tile in self.plan.tiles if not _is_whole(self.folder / tile.file, rows.get(tile.key))]

    def add(self, tiles: Iterable[Made]) -> None:
        """Write the files of finished tiles, then their rows in the index.

        Raises:
            InvalidInput: something cannot be written; the tiles that were added before are kept.
        """
        self._check_there()
        rows = []
        for made in tiles:
            write_bytes(self.folder / self._tiles[made.key].file, made.png)
            row = (to_text(dict(made.figures)), pack_numbers(made.trace), float(made.seconds))
            rows.append((made.key, _digest(made.png, *row), *row))
        self.insert("tiles", rows)

    def insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows, all or none; they replace those with the same key."""
        given = list(rows)
        if not given:
            return
        places = ", ".join("?" * len(given[0]))
        with telling(self.folder / INDEX), self._connection:
            self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", given)

    def clear(self, *tables: str) -> None:
        """Remove all rows of these tables."""
        with telling(self.folder / INDEX), self._connection:
            for table in tables:
                self._connection.execute(f"DELETE FROM {table}")

    def note(self, key: str, value: Any) -> None:
        """Keep something about the gallery as a whole, as JSON."""
        self.insert("about", [(key, to_text(value))])

    def noted(self, key: str) -> Any:
        """What ``note`` kept; None if there is nothing."""
        rows = [value for name, value in self._read("SELECT key, value FROM about") if name == key]
        return from_text(rows[0]) if rows else None

    def _read(self, query: str) -> list[Any]:
        with telling(self.folder / INDEX):
            return self._connection.execute(query).fetchall()

    def _check_there(self) -> None:
        """An error if the folder is not the one that was opened: rows would go to a file that nobody finds."""
        try:
            same = os.path.samestat(os.stat(self.folder / INDEX), self._opened)
        except OSError:
            same = False
        if not same:
            raise InvalidInput(
                f"{show_path(self.folder / INDEX)} was removed or replaced during the run; leave the folder alone, and"
                " give the same command again"
            )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make {show_path(path)}: {error.strerror}; give another folder (--out)") from error


def _read_plan(folder: Path) -> Plan | None:
    """The plan of the gallery that is there, if one is."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    try:
        return Plan.read(path)
    except InvalidInput as error:
        raise InvalidInput(
            f"{error}. Give another folder (--out); or, if it is a damaged plan, remove {show_path(path)}: the tiles"
            " are kept"
        ) from error


def _check_same(folder: Path, there: Plan, plan: Plan) -> None:
    """An error if the gallery that is there has tiles that ``plan`` has not."""
    lost = {tile.key for tile in there.tiles} - {tile.key for tile in plan.tiles}
    if lost:
        raise InvalidInput(
            f"{show_path(folder)} holds another gallery, of which {len(lost)} of {len(there)} tiles are not in this"
            f" plan ({_find_difference(there, plan)}); give another folder (--out), or the same arguments as before"
        )


def _find_difference(there: Plan, plan: Plan) -> str:
    if there.fingerprint != plan.fingerprint:
        return f"it is of another network or other weights: {there.model}"
    if there.recipe.text != plan.recipe.text:
        names = [n for n, value in plan.recipe.text.items() if there.recipe.text.get(n) != value]
        return "; ".join(f"{n} was {there.recipe.text.get(n)} and is {plan.recipe.text[n]}" for n in names)
    return "it has other layers, units, signs or objectives"


def _is_whole(path: Path, row: Sequence[Any] | None) -> bool:
    """Whether the file and the row are those that were written together."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InvalidInput(f"{show_path(path)} is a folder; remove it, then its tile is rendered")
        # What a link leads to may change or go away at any time.
        return row is not None and stat.S_ISREG(mode) and row[0] == _digest(path.read_bytes(), *row[1:])
    except OSError:
        return False


def _digest(png: bytes, figures: str, trace: bytes, seconds: float) -> str:
    """The hash of a tile's file and of its row."""
    return hashlib.sha256(b"\n".join([figures.encode(), trace, repr(seconds).encode(), png])).hexdigest()
