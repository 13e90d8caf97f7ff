"""Files: names for them, whole files or none, and folders that are checked before any work."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from featureviz.errors import InvalidInput


def write_bytes(path: Path, data: bytes) -> None:
    """Write the whole file, or leave everything as it was.

    The data go to a temporary file in the same folder, which then replaces ``path``. Missing folders are made.

    Raises:
        InvalidInput: the file cannot be written.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InvalidInput(f"cannot write {path}: {error.strerror or error}; give another path") from error
        raise


def write_json(path: Path, report: dict[str, Any]) -> None:
    """``report`` as JSON; it must hold no NaN, which JSON does not have."""
    write_bytes(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())


def check_writable(folder: str | os.PathLike[str]) -> Path:
    """``folder`` as a path, if files can be made there; creates nothing.

    Raises:
        InvalidInput: the folder, or the one it would be made in, is a file or must not be written to.
    """
    path = Path(folder)
    # os.path.exists, because Path.exists raises where a parent is a file.
    ancestor = next(p for p in (path, *path.absolute().parents) if os.path.exists(p))
    if not ancestor.is_dir():
        raise InvalidInput(f"cannot write to {path}: {ancestor} is a file; give another --out")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InvalidInput(f"cannot write to {path}: no permission in {ancestor}; give another --out")
    return path


def make_file_name(spec: str) -> str:
    """A spec as the name of a PNG.

    >>> make_file_name("-gate:features.12.block.2:17")
    'minus-gate-features.12.block.2-17.png'
    """
    text = re.sub(r"^-", "minus ", spec)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:120] + ".png"
