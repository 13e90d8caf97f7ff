"""The index of a gallery: a SQLite file with one row for each tile that is finished.

SQLite comes with Python, is one file, and writes a row wholly or not at all, also where the process is killed. A table
of columns (pyarrow) would have to be written anew for each batch.

Names of layers and photographs may be any text, also what is no UTF-8. So they are stored as JSON in ASCII.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from featureviz.errors import InvalidInput
from featureviz.files import show_path

INDEX, PHOTOGRAPHS = "index.sqlite", "photographs"
VERSION = 1
_FORMAT = 0x66766764  # "fvgd": SQLite keeps such a number in the file's head, by which programs know their own files
_LONGEST = 500  # bytes of the path: SQLite takes 512, with the ending "-journal"
_WAIT = 30  # seconds for another process that reads or writes a row
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tiles (
    key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, figures TEXT NOT NULL, trace BLOB NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE photographs (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE units (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (kind, layer, unit)
);
CREATE TABLE examples (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, sign INTEGER NOT NULL, rank INTEGER NOT NULL,
    photograph INTEGER NOT NULL, value REAL NOT NULL, box TEXT NOT NULL,
    PRIMARY KEY (kind, layer, unit, sign, rank)
);
CREATE TABLE neighbours (
    kind TEXT NOT NULL, layer TEXT NOT NULL, unit INTEGER NOT NULL, how TEXT NOT NULL, rank INTEGER NOT NULL,
    other INTEGER NOT NULL, similarity REAL NOT NULL,
    PRIMARY KEY (kind, layer, unit, how, rank)
);
"""
_AGAIN = "remove it, then the same command renders its tiles again"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process keeps it busy: wait for its end, then the same command goes on",
    sqlite3.SQLITE_FULL: "make room on the disk, then the same command goes on",
    sqlite3.SQLITE_IOERR: "make room on the disk, or see to it that the disk works; then the same command goes on",
    sqlite3.SQLITE_READONLY: "give a folder that can be written to",
    sqlite3.SQLITE_CANTOPEN: "give a folder that can be read and written to",
    sqlite3.SQLITE_PERM: "give a folder that can be read and written to",
}


def open_index(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """The index of a gallery's folder; to ``write``, it is made if it is missing, and all of it is checked.

    Raises:
        InvalidInput: it is missing, damaged, of another version, or no index of a gallery.
    """
    path = folder / INDEX
    _check_file(path, write)
    with telling(path):
        if write:
            return _checked(connect(path, "rwc", timeout=_WAIT), path, write)
        try:
            return _checked(connect(path, "ro", timeout=_WAIT), path, write)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        return _checked(_copy_rolled_back(path), path, write)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into ``InvalidInput`` with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        # The lowest byte is the kind of error; the others tell more of it.
        remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _AGAIN)
        raise InvalidInput(f"{show_path(path)}: {error}; {remedy}") from error


def to_text(value: Any) -> str:
    """A value as JSON in ASCII."""
    return json.dumps(value, allow_nan=False)


def from_text(text: Any) -> Any:
    """The value of ``to_text``."""
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the index holds {text!r:.80}, which is no JSON; {INDEX} is damaged: {_AGAIN}") from error


def pack_numbers(values: Sequence[float]) -> bytes:
    """Numbers as float32, the lowest byte first: half the size of their text, and read ten times as fast."""
    return np.asarray(values, "<f4").tobytes()


def unpack_numbers(data: Any) -> list[float]:
    """The numbers of ``pack_numbers``."""
    if not isinstance(data, bytes) or len(data) % 4:
        raise InvalidInput(f"the index holds {data!r:.80}, which are no numbers; {INDEX} is damaged: {_AGAIN}")
    return np.frombuffer(data, "<f4").tolist()


def connect(path: Path, mode: str, **options: Any) -> sqlite3.Connection:
    """SQLite's connection to a file of any name; the ``mode`` is ``"ro"`` or ``"rwc"``.

    Raises:
        InvalidInput: SQLite does not take such a long path.
        sqlite3.Error: the file cannot be opened.
    """
    absolute = path.absolute()  # otherwise "file:x" is read as an address
    if len(os.fsencode(absolute)) > _LONGEST:
        raise InvalidInput(
            f"the path {show_path(path)} has more than {_LONGEST} bytes, which SQLite does not take; give a folder with"
            " a shorter path"
        )
    return sqlite3.connect(f"{absolute.as_uri()}?mode={mode}", uri=True, **options)


def _check_file(path: Path, write: bool) -> None:
    """An error if there is something that SQLite cannot open, or would wait for without end."""
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        if not write:
            raise InvalidInput(f"{show_path(path)} is missing; the same command as before makes it again") from None
        regular = True
    except OSError as error:
        raise InvalidInput(f"cannot read {show_path(path)}: {error.strerror}; give another folder") from error
    if not regular:
        raise InvalidInput(f"{show_path(path)} is not a regular file; remove it, or give another folder")


def _checked(connection: sqlite3.Connection, path: Path, write: bool) -> sqlite3.Connection:
    """The connection, if it is to an index of this version; an empty file gets its tables."""
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            if not write:
                raise InvalidInput(f"{show_path(path)} is empty; the same command as before fills it")
            made = f"PRAGMA application_id = {_FORMAT}; PRAGMA user_version = {VERSION};"
            connection.executescript(f"BEGIN; {_TABLES} {made} COMMIT;")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found[0] != _FORMAT:
            raise InvalidInput(f"{show_path(path)} is no index of a gallery; remove it, or give another folder")
        if found[1] != VERSION:
            raise InvalidInput(
                f"{show_path(path)} is an index of version {found[1]}; this featureviz has version {VERSION}: {_AGAIN}"
            )
        damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0] if write else "ok"
        if damage != "ok":
            raise InvalidInput(f"{show_path(path)} is damaged ({damage}); {_AGAIN}")
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_rolled_back(path: Path) -> sqlite3.Connection:
    """The index in memory, as it was before a commit that was killed.

    SQLite undoes such a commit when the file is opened for writing, which a reader may not do.
    """
    with TemporaryDirectory(prefix="featureviz-") as folder:
        copy = Path(folder) / INDEX
        try:
            for ending in ("", "-journal"):
                shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
        except OSError as error:
            raise InvalidInput(f"cannot read {show_path(path)}: {error.strerror}; try again") from error
        memory = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(copy)) as there:
            there.backup(memory)
    return memory
