"""Files: opened without waiting, written whole or not at all, with names that no two texts share."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from featureviz.checks import show
from featureviz.errors import InvalidInput

PathLike = str | os.PathLike[str]

MOST_BYTES, MOST_JSON = 2**30, 2**28  # of a picture and of a report; weights and statistics may have more
_HASH, _READABLE = 10, 80  # characters of a file's name
_TEMPORARY = ".featureviz-"  # begins the name of a file that is not whole yet
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def check_path(path: PathLike) -> PathLike:
    """``path`` itself, or ``InvalidInput`` if it is of another type."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput(f"{show(path)} was given for a file or a folder; expected its path")
    return path


def open_file(path: PathLike, most: int | None = None) -> BinaryIO:
    """A regular file, open for reading.

    A pipe or a device, which may never end, is not waited for.

    Args:
        path: the file.
        most: the largest number of bytes that it may have; None for any.

    Raises:
        InvalidInput: there is no such file, it is no regular one, it must not be read, or it is too large.
    """
    check_path(path)
    try:
        _check_regular(path, os.stat(path), most)
        # The file may have changed since: a pipe that is opened in this way does not wait for its other end.
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"cannot read {show_path(path)}: {_reason(error)}; give the path of a file") from error


def _check_regular(path: PathLike, about: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "a device")
        raise InvalidInput(f"cannot read {show_path(path)}: it is {kind}; give the path of a file")
    if most is not None and about.st_size > most:
        raise InvalidInput(f"{show_path(path)} has {about.st_size:,} bytes; expected at most {most:,}")


def read_json(path: PathLike) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InvalidInput: the file cannot be read, is not JSON in UTF-8, or holds something else than an object.
    """
    with open_file(path, MOST_JSON) as file:
        return parse_json(file.read(), show_path(path))


def parse_json(data: str | bytes, name: str) -> dict[str, Any]:
    """The JSON object that ``data`` holds; ``name`` is the file's, for the error."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} holds no JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{name} holds a JSON {type(content).__name__}; expected an object, {{...}}")
    return content


def write_bytes(path: Path, data: bytes) -> None:
    """Write the whole file, or leave everything as it was.

    The data go to a temporary file in the same folder, which then replaces ``path``. Missing folders are made.

    Raises:
        InvalidInput: the file cannot be written.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError | ValueError):
            raise InvalidInput(f"cannot write {show_path(path)}: {_reason(error)}; give another path") from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that ``write_bytes`` left in ``folder`` when its process was killed.

    Nobody else may write to the folder meanwhile.

    Raises:
        InvalidInput: one cannot be removed.
    """
    for path in folder.glob(f"{_TEMPORARY}????????"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidInput(f"cannot remove {show_path(path)}: {_reason(error)}; remove it by hand") from error


def write_json(path: Path, report: dict[str, Any]) -> None:
    """``report`` as JSON; it must hold no NaN, which JSON does not have."""
    write_bytes(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())


def check_writable(folder: PathLike) -> Path:
    """``folder`` as a path, if files can be made there. It is tried, and nothing is left of the trial.

    Raises:
        InvalidInput: the folder, or the one it would be made in, is a file or must not be written to.
    """
    path = Path(check_path(folder))
    new = [p for p in (path, *path.parents) if not os.path.lexists(p)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:
        blocking = next((p for p in (path, *path.parents) if os.path.isfile(p)), None)
        why = _reason(error) if blocking is None else f"{show_path(blocking)} is a file"
        raise InvalidInput(f"cannot write to {show_path(path)}: {why}; give another folder (--out)") from error
    finally:
        for made in new:
            with suppress(OSError, ValueError):
                made.rmdir()
    return path


def make_file_name(text: str, suffix: str = ".png", *, key: str = "") -> str:
    """A file's name for ``text``: what can be read of it, and a hash, so that two texts never have the same name.

    Two names of the same text differ if their ``key`` does, which is in the hash alone.

    >>> make_file_name("-gate:features.12.block.2:17")
    'minus-gate-features.12.block.2-17-bd4d278e21.png'
    >>> make_file_name("gate:d.a-b:1") == make_file_name("gate:d.a_b:1")
    False
    """
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"^-", "minus ", text)).strip("-.")[:_READABLE].rstrip("-.")
    digest = hashlib.sha256(f"{text}{key}".encode(errors="surrogatepass")).hexdigest()[:_HASH]
    return f"{readable}-{digest}{suffix}".lstrip("-")


def is_made_name(name: str) -> bool:
    """Whether ``name`` has the form that ``make_file_name`` gives.

    >>> is_made_name(make_file_name("features.6:3")), is_made_name("holiday.png")
    (True, False)
    """
    return re.fullmatch(rf"(?:[A-Za-z0-9.-]+-)?[0-9a-f]{{{_HASH}}}\.[a-z]+", name) is not None


def _reason(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def show_path(path: PathLike) -> str:
    """A path for a message; the bytes of a name that is not UTF-8 are written as such."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput(f"{show(path)} was given for a path; expected text or a Path")
    return os.fspath(path).encode(errors="backslashreplace").decode()
