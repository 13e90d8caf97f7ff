"""Pictures and figures on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featureviz.files import make_file_name, write_bytes
from featureviz.rendering.png import encode_png, make_contact_sheet
from featureviz.rendering.rendering import Rendering


def write_tile(folder: Path, name: str, rendering: Rendering, row: int) -> str:
    """Write image ``row`` of a rendering as a PNG with its own recipe; returns the file's name."""
    file = make_file_name(name)
    write_bytes(folder / file, encode_png(rendering.images[row], rendering.recipe_of(row)))
    return file


def write_sheet(folder: Path, images: list[Tensor], columns: int | None = None) -> None:
    """Write all images as one picture, ``sheet.png``."""
    write_bytes(folder / "sheet.png", encode_png(make_contact_sheet(torch.stack(images), columns)))


def to_json(value: Any, digits: int = 5) -> Any:
    """A value for a report: tensors as numbers and lists, floats rounded, NaN and infinity as None.

    >>> to_json({"logit": torch.tensor(0.1234567), "names": ("a", None), "sd": float("nan")})
    {'logit': 0.12346, 'names': ['a', None], 'sd': None}
    """
    if isinstance(value, Tensor):
        return to_json(value.tolist(), digits)
    if isinstance(value, dict):
        return {key: to_json(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, digits) for item in value]
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
