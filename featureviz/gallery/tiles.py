"""Pictures and figures on disk."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
from torch import Tensor

from featureviz.files import make_file_name, write_bytes
from featureviz.gallery.folder import SHEET
from featureviz.rendering.png import encode_png, make_contact_sheet, to_pixels, write_image
from featureviz.rendering.rendering import Rendering


def write_tile(folder: Path, name: str, rendering: Rendering, row: int) -> str:
    """Write image ``row`` of a rendering as a PNG with its own recipe; returns the file's name."""
    file = make_file_name(name)
    write_image(folder / file, rendering.images[row], rendering.recipe_of(row), alpha=rendering.alpha)
    return file


def encode_jpeg(image: Tensor, quality: int, **options: Any) -> bytes:
    """``[C,H,W]`` in [0,1] as the bytes of a JPEG; ``options`` are those of Pillow."""
    data = iio.imwrite("<bytes>", to_pixels(image), extension=".jpg", plugin="pillow", quality=quality, **options)
    assert data is not None
    return data


def write_sheet(folder: Path, images: list[Tensor], columns: int | None = None) -> None:
    """Write all images as one picture."""
    write_bytes(folder / SHEET, encode_png(make_contact_sheet(images, columns)))


def get_shared(recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a recipe that all images of a gallery have in common."""
    own = ("spec", "steps done", "image_ids", "seeds", "unmoved")
    return {key: value for key, value in recipe.items() if key not in own}


def to_json(value: Any) -> Any:
    """A value for a report: tensors as numbers and lists, six digits of a float, NaN and infinity as None.

    A dataclass becomes a dictionary; its names are written with spaces.

    >>> to_json({"logit": Tensor([0.12345678])[0], "names": ("a", None), "sd": float("nan")})
    {'logit': 0.123457, 'names': ['a', None], 'sd': None}
    """
    if isinstance(value, Tensor):
        value = value.tolist()
    elif is_dataclass(value):
        value = {field.name.replace("_", " "): getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
