"""PNG files: pictures as bytes, the recipe in their metadata, whole files or none."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featureviz.errors import InvalidInput

RECIPE_KEY = "featureviz"


def pixels(image: Tensor) -> np.ndarray:
    """``[C,H,W]`` in [0,1] to bytes ``[H,W,3]`` or ``[H,W]``; of other channel counts, the first one."""
    array = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]


def png(image: Tensor, recipe: dict[str, Any] | None = None) -> bytes:
    """``[C,H,W]`` in [0,1] as the bytes of a PNG, with ``recipe`` as JSON in a text chunk."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if recipe is not None:
        info.add_itxt(RECIPE_KEY, json.dumps(recipe))
    buffer = io.BytesIO()
    Image.fromarray(pixels(image)).save(buffer, "png", pnginfo=info, optimize=True)
    return buffer.getvalue()


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The recipe that ``save`` put into a PNG."""
    from PIL import Image

    with Image.open(path) as picture:
        text = picture.info.get(RECIPE_KEY)
    if text is None:
        raise InvalidInput(f"{path} holds no featureviz recipe; only PNGs that Rendering.save wrote do")
    return json.loads(text)


def contact_sheet(images: Tensor, columns: int | None = None, gap: int = 4) -> Tensor:
    """``[N,C,H,W]`` as one picture ``[C, rows, columns]`` on white, nearly square unless ``columns`` is given."""
    n, c, h, w = images.shape
    columns = min(n, columns or round(n**0.5 + 0.49))
    rows = -(-n // columns)
    sheet = torch.ones(c, rows * (h + gap) - gap, columns * (w + gap) - gap)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[:, y : y + h, x : x + w] = image
    return sheet


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or none: beside its place first, then moved there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}; give another place") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InvalidInput(f"cannot write {path}: {error.strerror or error}; give another place") from error
        raise
