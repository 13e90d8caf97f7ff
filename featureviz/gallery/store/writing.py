"""Writing a gallery: the manifest first, then tile after tile, each whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, show_path, write_bytes
from featureviz.gallery.planning.plan import MANIFEST, Plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.index import INDEX, open_index, telling, to_text
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

    @classmethod
    @contextmanager
    def hold(cls, folder: PathLike, plan: Plan) -> Iterator[Store]:
        """Open a new gallery in ``folder``, or the one that is there, if ``plan`` holds all of its tiles.

        Raises:
            InvalidInput: the folder cannot be written to, another process writes to it, or it holds a gallery of which
                the plan would lose tiles.
        """
        path = check_writable(folder)
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if os.path.lexists(path / MANIFEST):
                _check_same(path, Plan.read(path / MANIFEST), plan)
            with closing(open_index(path, write=True)) as connection:
                plan.write(path / MANIFEST)
                yield cls(path, plan, connection)

    def missing(self) -> list[Tile]:
        """The tiles that are not finished, or whose file is not what was written."""
        rows = {key: (digest, size) for key, digest, size in self._read("SELECT key, sha256, bytes FROM tiles")}
        return [tile for tile in self.plan.tiles if not _is_whole(self.folder / tile.file, rows.get(tile.key))]

    def add(self, tiles: Iterable[Made]) -> None:
        """Write the files of finished tiles, then their rows in the index."""
        rows = []
        for made in tiles:
            write_bytes(self.folder / self._tiles[made.key].file, made.png)
            digest = hashlib.sha256(made.png).hexdigest()
            figures, trace = to_text(dict(made.figures)), to_text([float(f"{v:.6g}") for v in made.trace])
            rows.append((made.key, digest, len(made.png), figures, trace, made.seconds))
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

    def _read(self, query: str) -> list[Any]:
        with telling(self.folder / INDEX):
            return self._connection.execute(query).fetchall()


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


def _is_whole(path: Path, row: tuple[str, int] | None) -> bool:
    if row is None:
        return False
    digest, size = row
    try:
        if path.stat().st_size != size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False
