"""The index of a gallery: a SQLite file with one row for each tile that is finished.

SQLite comes with Python, is one file, and writes a row wholly or not at all, also where the process is killed. A table
of columns (pyarrow) would have to be written anew for each batch.

Names of layers and photographs may be any text, also what is no UTF-8. So they are stored as JSON in ASCII.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featureviz.errors import InvalidInput
from featureviz.files import show_path

INDEX = "index.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tiles (
    key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, figures TEXT NOT NULL, trace TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS photographs (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS units (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (kind, layer, unit)
);
CREATE TABLE IF NOT EXISTS examples (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, sign INTEGER NOT NULL, rank INTEGER NOT NULL,
    photograph INTEGER NOT NULL, value REAL NOT NULL, box TEXT NOT NULL,
    PRIMARY KEY (kind, layer, unit, sign, rank)
);
CREATE TABLE IF NOT EXISTS neighbours (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, how TEXT NOT NULL, rank INTEGER NOT NULL,
    other INTEGER NOT NULL, similarity REAL NOT NULL,
    PRIMARY KEY (kind, layer, unit, how, rank)
);
"""


def open_index(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """The index of a gallery's folder; to ``write``, it is made if it is missing.

    Raises:
        InvalidInput: it is missing, damaged, or no index of a gallery.
    """
    path = folder / INDEX
    with telling(path):
        mode = "rwc" if write else "ro"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)
        try:
            if write:
                connection.executescript(_TABLES)
            connection.execute("SELECT key FROM tiles LIMIT 1")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into ``InvalidInput`` with a remedy."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InvalidInput(
            f"{show_path(path)}: {error}; make room on the disk, or give a folder that can be written to"
        ) from error
    except sqlite3.DatabaseError as error:
        raise InvalidInput(
            f"{show_path(path)} is no index of a gallery: {error}; remove it, then the tiles are rendered again"
        ) from error


def to_text(value: Any) -> str:
    """A value as JSON in ASCII."""
    return json.dumps(value, allow_nan=False)


def from_text(text: Any) -> Any:
    """The value of ``to_text``."""
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the index holds {text!r}, which is no JSON; remove the index of the gallery") from error
