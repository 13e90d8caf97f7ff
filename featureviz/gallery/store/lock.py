"""One writer at a time: a lock that ends with its process, however that ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from featureviz.errors import InvalidInput
from featureviz.files import show_path
from featureviz.gallery.store.index import connect

LOCK = ".lock.sqlite"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Who only reads needs no lock.

    The lock is that of an open transaction of SQLite, which the operating system gives back when the process ends.

    Raises:
        InvalidInput: another process, or another thread, holds it.
    """
    try:
        connection = connect(folder / LOCK, "rwc", timeout=0, isolation_level=None)
    except sqlite3.Error as error:
        raise _explain(folder, error) from error
    with closing(connection):
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise _explain(folder, error) from error
        yield


def _explain(folder: Path, error: sqlite3.Error) -> InvalidInput:
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
        return InvalidInput(f"another run writes to {show_path(folder)}; wait for its end, or give another folder")
    return InvalidInput(f"cannot lock {show_path(folder)}: {error}; remove {LOCK} there, or give another folder")
