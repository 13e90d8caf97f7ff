"""Pictures and figures on disk: whole files, written when everything that they show is known."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.rendering.png import contact_sheet, png, write_bytes
from featureviz.rendering.rendering import Rendering


def writable(folder: str | os.PathLike[str]) -> Path:
    """``folder`` as a path, known before any work to be a place where files can be made; creates nothing."""
    path = Path(folder)
    ancestor = next(
        p for p in (path, *path.absolute().parents) if os.path.exists(p)
    )  # which, unlike Path.exists, never raises
    if not ancestor.is_dir():
        raise InvalidInput(f"cannot write to {path}: {ancestor} is a file; give another --out")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InvalidInput(f"cannot write to {path}: no permission in {ancestor}; give another --out")
    return path


def file_name(text: str) -> str:
    """A spec as a file name.

    >>> file_name("-gate:features.12.block.2:17")
    'minus-gate-features.12.block.2-17.png'
    """
    text = re.sub(r"^-", "minus ", text)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:120] + ".png"


def write_tile(folder: Path, name: str, rendering: Rendering, row: int) -> str:
    """Image ``row`` of a rendering as a PNG with its own recipe; returns the file's name."""
    file = file_name(name)
    write_bytes(folder / file, png(rendering.images[row], rendering.recipe_of(row)))
    return file


def write_sheet(folder: Path, images: list[Tensor], columns: int | None = None) -> str:
    """All images in one picture, ``sheet.png``."""
    write_bytes(folder / "sheet.png", png(contact_sheet(torch.stack(images), columns)))
    return "sheet.png"


def rounded(values: Tensor, digits: int = 5) -> list[float | None]:
    """For a report: JSON has no NaN, so what is not finite is null."""
    return [round(v, digits) if math.isfinite(v) else None for v in values.tolist()]


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Every figure shown, as ``report.json``."""
    write_bytes(folder / "report.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
