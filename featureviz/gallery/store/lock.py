"""One writer at a time: a lock that ends with its process, however that ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from featureviz.errors import InvalidInput
from featureviz.files import show_path

LOCK = ".lock.sqlite"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    The lock is that of an open transaction of SQLite, which the operating system gives back when the process ends.

    Raises:
        InvalidInput: another process holds it.
    """
    with closing(sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise InvalidInput(
                f"cannot lock {show_path(folder)}: {error}; another run may be writing to it: wait for its end, or give"
                " another folder"
            ) from error
        yield
