"""Lucid's ``misc.io``: ``show``, ``save`` and ``load`` of pictures and arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from featureviz.checks import show as show_value
from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_path, write_bytes
from featureviz.image.picture import read_picture
from featureviz.rendering.png import encode_png, make_contact_sheet

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def show(thing: Any, **_: Any) -> None:
    """Show pictures ``[H,W,C]`` or ``[N,H,W,C]`` in a notebook; elsewhere nothing happens, and nothing is printed."""
    try:
        from IPython.display import Image, display  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    display(Image(data=_encode(thing)))


def save(thing: Any, url_or_handle: PathLike, **_: Any) -> None:
    """Write a picture (.png, .jpg, .webp), an array (.npy) or what JSON can hold (.json)."""
    path = Path(check_path(url_or_handle))
    if path.suffix == ".npy":
        import io

        file = io.BytesIO()
        np.save(file, np.asarray(thing))
        write_bytes(path, file.getvalue())
    elif path.suffix == ".json":
        write_bytes(path, json.dumps(thing).encode())
    elif path.suffix == ".png":
        write_bytes(path, _encode(thing))
    elif path.suffix in PICTURES:
        pixels = (np.asarray(thing).clip(0, 1) * 255).round().astype(np.uint8)
        write_bytes(path, iio.imwrite("<bytes>", pixels, extension=path.suffix, plugin="pillow") or b"")
    else:
        raise InvalidInput(f"{path.name} was given; expected .png, .jpg, .webp, .npy or .json")


def load(url_or_handle: PathLike, **_: Any) -> Any:
    """Read what ``save`` writes from a file: a picture is ``[H,W,3]`` in [0,1]."""
    path = Path(check_path(url_or_handle))
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix in PICTURES:
        return read_picture(path).movedim(0, -1).numpy()
    raise InvalidInput(f"{path.name} was given; expected .png, .jpg, .webp, .npy or .json, in a file")


def _encode(thing: Any) -> bytes:
    array = np.asarray(thing, dtype=np.float32)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4):
        raise InvalidInput(f"{show_value(thing)} was given; expected pictures [H,W,C] or [N,H,W,C], C 1, 3 or 4")
    images = torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, -3)
    if images.ndim == 3:
        return encode_png(images, alpha=len(images) == 4)
    return encode_png(make_contact_sheet(images))
