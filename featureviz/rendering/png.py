"""PNG: images as bytes, with the recipe that made them in the metadata."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from featureviz.errors import InvalidInput

RECIPE_KEY = "featureviz"
_HEADER = 33  # bytes of the signature and the first chunk; text chunks may follow


def to_pixels(image: Tensor) -> np.ndarray:
    """``[C,H,W]`` in [0,1] to bytes: ``[H,W,3]``, or ``[H,W]`` of the first channel unless there are three."""
    array = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]


def encode_png(image: Tensor, recipe: dict[str, Any] | None = None, *, palette: bool = False) -> bytes:
    """``[C,H,W]`` in [0,1] as the bytes of a PNG, with ``recipe`` as JSON in a text chunk.

    ``palette`` reduces the image to 256 colours, so that a page of text and maps has less than half the bytes.

    >>> encode_png(torch.rand(3, 4, 4), {"seed": 0})[1:4]
    b'PNG'
    """
    options: dict[str, Any] = {"bits": 8} if palette else {}
    data = iio.imwrite("<bytes>", to_pixels(image), extension=".png", plugin="pillow", optimize=True, **options)
    assert data is not None
    return data if recipe is None else data[:_HEADER] + _text_chunk(RECIPE_KEY, json.dumps(recipe)) + data[_HEADER:]


def _text_chunk(key: str, text: str) -> bytes:
    """The chunk iTXt of the PNG specification: not compressed, of no language."""
    body = b"iTXt" + key.encode() + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The recipe that ``Rendering.save`` put into a PNG."""
    try:
        text = iio.immeta(path, plugin="pillow").get(RECIPE_KEY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read as a picture; give a PNG that Rendering.save wrote") from error
    if text is None:
        raise InvalidInput(f"{path} holds no featureviz recipe; only PNGs that Rendering.save wrote hold one")
    return json.loads(text)


def make_contact_sheet(images: Tensor, columns: int | None = None) -> Tensor:
    """``[N,C,H,W]`` as one picture ``[C,H,W]`` on white, nearly square unless ``columns`` is given."""
    (n, c, h, w), gap = images.shape, 4  # pixels
    columns = min(n, columns or round(n**0.5 + 0.49))
    rows = -(-n // columns)
    sheet = torch.ones(c, rows * (h + gap) - gap, columns * (w + gap) - gap, dtype=torch.float32, device="cpu")
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[:, y : y + h, x : x + w] = image
    return sheet
