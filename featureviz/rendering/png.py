"""PNG: images as bytes, with the recipe that made them in the metadata."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.files import MOST_BYTES, PathLike, check_path, open_file, parse_json, show_path, write_bytes

RECIPE_KEY = "featureviz"
GAP = 4  # pixels between the pictures of a sheet
OTHER_FORMATS = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".jxl", ".webp", ".avif", ".heic", ".heif", ".bmp", ".dib", ".gif",
    ".tif", ".tiff", ".ico", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".svg", ".pdf", ".eps", ".ps",
    ".psd", ".mp4", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".json", ".html",
])  # fmt: skip
_HEADER = 33  # bytes of the signature and the first chunk; text chunks may follow


def to_pixels(image: Tensor, *, alpha: bool = False) -> np.ndarray:
    """``[C,H,W]`` in [0,1] to bytes: ``[H,W,3]`` for three channels, ``[H,W]`` for one.

    With ``alpha`` the last channel is transparency, and the result ``[H,W,4]``. Any other number of channels becomes
    grey pictures side by side on white, as ``[H',W',3]``.
    """
    if alpha:
        image = torch.cat([image[:-1].expand(3, -1, -1), image[-1:]])
    elif len(image) not in (1, 3):
        image = _to_sheet(image)
    array = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.moveaxis(array, 0, -1) if len(array) > 1 else array[0]


def encode_png(
    image: Tensor, recipe: dict[str, Any] | None = None, *, palette: bool = False, alpha: bool = False
) -> bytes:
    """``[C,H,W]`` in [0,1] as the bytes of a PNG, with ``recipe`` as JSON in a text chunk.

    ``alpha`` says that the last channel is transparency. ``palette`` reduces the image to 256 colours, so that a page
    of text and maps has less than half the bytes.

    >>> encode_png(torch.rand(3, 4, 4), {"seed": 0})[1:4]
    b'PNG'
    """
    options: dict[str, Any] = {"bits": 8} if palette else {}
    data = iio.imwrite(
        "<bytes>", to_pixels(image, alpha=alpha), extension=".png", plugin="pillow", optimize=True, **options
    )
    assert data is not None
    return data if recipe is None else data[:_HEADER] + _text_chunk(RECIPE_KEY, json.dumps(recipe)) + data[_HEADER:]


def write_image(path: Path, image: Tensor, recipe: dict[str, Any], *, alpha: bool = False) -> None:
    """Write ``[C,H,W]`` in [0,1] as a PNG with its recipe; with ``alpha``, the last channel is transparency.

    Unless C is 1 or 3, the values themselves are beside it, as a float32 ``.npy`` of the same name.
    """
    if len(image) not in (1, 3) and not alpha:
        file = io.BytesIO()
        np.save(file, image.detach().float().cpu().numpy())
        write_bytes(path.with_suffix(".npy"), file.getvalue())
    write_bytes(path, encode_png(image, recipe, alpha=alpha))


def over_white(images: Tensor) -> Tensor:
    """Images ``[N,C+1,H,W]`` whose last channel is alpha as they look on white, ``[N,C,H,W]``."""
    alpha = images[:, -1:]
    return images[:, :-1] * alpha + (1 - alpha)


def name_png(path: PathLike) -> Path:
    """``path`` with the suffix .png, which is added if there is none.

    Raises:
        InvalidInput: the suffix is that of another format, or ``path`` is no path of a file.

    >>> name_png("out/features.6").name, name_png("a.PNG").name
    ('features.6.png', 'a.PNG')
    """
    target = Path(check_path(path))
    if target.name in ("", ".."):
        raise InvalidInput(f"{show_path(path)!r} was given for an image; expected the path of a file, as out/a.png")
    if target.suffix.lower() in OTHER_FORMATS:
        raise InvalidInput(
            f"{show_path(path)} was given, but images are written as PNG, which keeps every pixel and the recipe;"
            f" expected {target.stem}.png"
        )
    # with_suffix would cut "out/features.6"
    return target if target.suffix.lower() == ".png" else target.with_name(f"{target.name}.png")


def _text_chunk(key: str, text: str) -> bytes:
    """The chunk iTXt of the PNG specification: not compressed, of no language."""
    body = b"iTXt" + key.encode() + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def read_recipe(path: PathLike) -> dict[str, Any]:
    """The recipe that ``Rendering.save`` put into a PNG.

    Raises:
        InvalidInput: the file cannot be read, is no PNG, is cut short, or holds no recipe.
    """
    from PIL import Image  # imported here so that `import featureviz` stays light

    name = show_path(path)
    with open_file(path, MOST_BYTES) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about large pictures
                with Image.open(file, formats=["PNG"]) as picture:
                    picture.load()
                    text = picture.info.get(RECIPE_KEY)
        except Exception as error:  # decoders raise many types of errors on a broken file
            raise InvalidInput(f"{name} cannot be read as a picture; give a PNG that Rendering.save wrote") from error
    if not isinstance(text, str):
        raise InvalidInput(f"{name} holds no featureviz recipe; only PNGs that Rendering.save wrote hold one")
    return parse_json(text, f"the recipe of {name}")


def make_contact_sheet(images: Sequence[Tensor] | Tensor, columns: int | None = None) -> Tensor:
    """Images ``[C,H,W]`` of one size as one picture ``[C,H,W]`` on white, nearly square unless ``columns`` is given.

    An image with another number of channels than 1 or 3 is a sheet of its own, ``[3,H',W']``.
    """
    shown = [image if len(image) in (1, 3) else _to_sheet(image) for image in images]
    (c, h, w), n = shown[0].shape, len(shown)
    columns = min(n, columns or round(n**0.5 + 0.49))
    rows = -(-n // columns)
    sheet = torch.ones(c, rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, dtype=torch.float32, device="cpu")
    for i, image in enumerate(shown):
        y, x = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        sheet[:, y : y + h, x : x + w] = image
    return sheet


def _to_sheet(image: Tensor) -> Tensor:
    """The channels ``[C,H,W]`` as grey pictures side by side, ``[3,H',W']``."""
    return make_contact_sheet(image.detach().cpu()[:, None]).expand(3, -1, -1)
