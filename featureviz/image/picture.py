"""A picture as a tensor, from whatever holds one: a file, Pillow, NumPy or torch."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.checks import holds_numbers, show, whole
from featureviz.errors import InvalidInput
from featureviz.files import MOST_BYTES, PathLike, open_file, show_path
from featureviz.image.base import CHANNELS, Size, check_shape, height_width

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "Tensor | np.ndarray[Any, Any] | Image.Image | str | os.PathLike[str]"

ROUNDING = 1e-3  # how far resampling may leave [0,1]
MOST_PIXELS = 2**27  # of a picture: 134 million, which take 1.6 GB as floats
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # EPS, for one, would start another program
_WANTED = "expected a path, a PIL image, an array (bytes, or floats in [0,1]) or a tensor [C,H,W] or [N,C,H,W] in [0,1]"


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether ``value`` is of a type that ``as_tensor`` takes."""
    return isinstance(value, Tensor | np.ndarray | str | os.PathLike) or _is_pillow(value)


def as_tensor(picture: Picture, channels: int = 3, name: str = "picture") -> Tensor:
    """A picture of any kind, at its own size: ``[C,H,W]``, or ``[N,C,H,W]`` for several, float32 in [0,1].

    Args:
        picture: a path or a PIL image, both read as ``read_picture`` does; an array ``[H,W]`` (grey), ``[C,H,W]``,
            ``[H,W,C]``, ``[N,C,H,W]`` or ``[N,H,W,C]``; a tensor ``[C,H,W]`` or ``[N,C,H,W]``. Arrays and tensors hold
            bytes (uint8) or floats in [0,1].
        channels: C, those of the network.
        name: of the argument, for errors.

    Raises:
        InvalidInput: it is none of these, its axes are ambiguous, or a value is not finite or beyond [0,1].

    >>> as_tensor(np.zeros((4, 6, 3), np.uint8)).shape, as_tensor(np.ones((2, 4, 6, 3))).shape
    (torch.Size([3, 4, 6]), torch.Size([2, 3, 4, 6]))
    """
    if isinstance(picture, Tensor):
        return _scale(_check_tensor(picture, channels, name), name)
    if isinstance(picture, np.ndarray):
        return _scale(_order_axes(picture, channels, name), name)
    if isinstance(picture, str | os.PathLike):
        return read_picture(picture, channels=channels)
    if _is_pillow(picture):
        return _decode(picture, "the PIL image", None, channels)
    raise InvalidInput(f"{name}={show(picture)} was given; {_WANTED}")


def check_pictures(images: Picture, channels: int = 3, name: str = "images") -> Tensor:
    """One picture, or several, of any kind: ``[N,C,H,W]`` float32 in [0,1]."""
    pictures = as_tensor(images, whole("channels", channels, 1, CHANNELS), name)
    return pictures if pictures.ndim == 4 else pictures[None]


def check_start(image: Picture, n: int | None, channels: int, size: Size | None) -> Tensor:
    """The starting image, checked, as ``[n,channels,H,W]``; a single image is repeated n times."""
    pictures = check_pictures(image, channels, "image").clamp(0, 1)
    given = (pictures.shape[-2], pictures.shape[-1])
    n, *_ = check_shape(len(pictures) if n is None else n, channels, given)
    if len(pictures) not in (1, n):
        raise InvalidInput(f"image of shape {list(pictures.shape)} was given for {n} images; expected one, or one each")
    if size is not None and given != height_width(size):
        raise InvalidInput(
            f"image of {given[0]}x{given[1]} was given for size={show(size)}; leave size out or resize the image"
        )
    return pictures.expand(n, -1, -1, -1)


def find_start(
    image: Picture | None, n: int | None, channels: int, size: Size | None
) -> tuple[Tensor | None, tuple[int, int, int, int]]:
    """The picture to start from, if one is given, and the shape ``[n,channels,H,W]`` of the images."""
    if image is None:
        return None, check_shape(n, channels, size)
    start = check_start(image, n, channels, size)
    n, channels, height, width = start.shape
    return start, (n, channels, height, width)


def add_rest(images: Tensor, rest: Tensor | None) -> Tensor:
    """The images with what their leaves cannot hold of the picture they started from: pixels that are 0 or 1."""
    return images if rest is None else (images + rest).clamp(0, 1)


def read_picture(path: PathLike, size: Size | None = None, *, channels: int = 3) -> Tensor:
    """The picture in a file, ``[C,H,W]`` in [0,1]; with ``size``, it is scaled until it covers that, and cropped.

    It is turned by its EXIF orientation. Transparent pixels are shown on white. Grey of 16 bits keeps its range. An
    animation gives its first frame. Scaling is bilinear with antialiasing, and the centre stays.

    Args:
        path: of a PNG, JPEG, WebP, BMP, GIF or TIFF with at most 134 million pixels.
        size: of the result, a side or (height, width); by default the picture's own.
        channels: 3 for RGB, 1 for grey.

    Raises:
        InvalidInput: the file cannot be read, or is no such picture.
    """
    from PIL import Image, UnidentifiedImageError  # imported here so that `import featureviz` stays light

    channels = whole("channels", channels, 1, CHANNELS)
    with open_file(path, MOST_BYTES) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as those about large files, unusual tags and palettes
                picture = Image.open(file, formats=FORMATS)
        except Exception as error:  # decoders raise many types of errors on a broken file
            known = not isinstance(error, UnidentifiedImageError)
            why = error if known else ValueError(f"it is none, or a broken one; expected {', '.join(FORMATS)}")
            raise _unreadable(show_path(path), why) from error
        with picture:
            return _decode(picture, show_path(path), size, channels)


def cover(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """``[N,C,H,W]`` scaled until they cover (height, width), and cropped at the centre; bilinear, antialiased.

    >>> cover(torch.zeros(2, 3, 40, 60), (20, 20)).shape
    torch.Size([2, 3, 20, 20])
    """
    (height, width), (h, w) = size, pictures.shape[-2:]
    if (h, w) == size:
        return pictures
    scale = max(height / h, width / w)
    larger = max(height, round(h * scale)), max(width, round(w * scale))
    scaled = F.interpolate(pictures, larger, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    top, left = (larger[0] - height) // 2, (larger[1] - width) // 2
    return scaled[..., top : top + height, left : left + width]


def _decode(picture: Image.Image, name: str, size: Size | None, channels: int) -> Tensor:
    from PIL import ImageOps

    if channels not in (1, 3):
        raise InvalidInput(
            f"{name} was given for a network of {channels} channels; expected a tensor or an array [{channels},H,W]"
        )
    try:
        _check_size(picture.width, picture.height)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upright = _to_rgb(ImageOps.exif_transpose(picture))
        upright = upright if size is None else _cover(upright, height_width(size))
    except Exception as error:
        raise _unreadable(name, error) from error
    if upright.mode == "F":
        return torch.from_numpy(np.array(upright)).clamp(0, 1).repeat(channels, 1, 1)
    pixels = np.array(upright if channels == 3 else upright.convert("L"))
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).movedim(-1, 0).float() / 255


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels; expected at most {MOST_PIXELS:,}: make it smaller")


def _to_rgb(picture: Image.Image) -> Image.Image:
    """As RGB; grey of 16 bits as mode F in [0,1], which keeps its range."""
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("mode F has values of unknown range; save the picture with 8 or 16 bits a channel")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.float32)
        if values.max() > 65535 or values.min() < 0:
            raise ValueError(f"mode {picture.mode} has values beyond 16 bits; save the picture with 8 or 16 bits")
        return Image.fromarray(values / 65535)
    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        above = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return picture.convert("RGB")


def _cover(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled until it just covers (height, width), and cropped at the centre."""
    from PIL import Image

    height, width = size
    scale = min(picture.width / width, picture.height / height)
    left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
    # Rounding may put the right and the lower edge outside of the picture.
    right, bottom = min(left + scale * width, picture.width), min(top + scale * height, picture.height)
    return picture.resize(
        (width, height), Image.Resampling.BILINEAR, box=(max(0.0, left), max(0.0, top), right, bottom)
    )


def _unreadable(name: str, error: Exception) -> InvalidInput:
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InvalidInput(f"cannot read {name} as a picture: {why}")


def _check_tensor(picture: Tensor, channels: int, name: str) -> Tensor:
    if not holds_numbers(picture):
        raise InvalidInput(f"{name}={show(picture)} was given, which holds no plain real numbers; {_WANTED}")
    shape = list(picture.shape)
    if picture.ndim not in (3, 4) or shape[-3] != channels or not picture.numel():
        hint = "; move the channels: image.movedim(-1, -3)" if len(shape) in (3, 4) and shape[-1] == channels else ""
        raise InvalidInput(f"{name} of shape {shape} was given; expected [{channels},H,W] or [N,{channels},H,W]{hint}")
    return picture.detach()


def _order_axes(array: np.ndarray[Any, Any], channels: int, name: str) -> Tensor:
    """``[C,H,W]`` or ``[N,C,H,W]`` of bytes or floats."""
    shape, c = list(array.shape), channels
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        hint = "; divide by 65535" if array.dtype == np.uint16 else ""
        raise InvalidInput(f"{name} of {array.dtype} was given; expected bytes (uint8) or floats in [0, 1]{hint}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        values = torch.from_numpy(np.array(array, np.uint8 if array.dtype == np.uint8 else np.float32))
    if array.ndim == 2 and c in (1, 3):
        return values.repeat(c, 1, 1)
    first, last = (array.ndim in (3, 4) and shape[axis] == c for axis in (-3, -1))
    if first and last:
        raise InvalidInput(
            f"{name} of shape {shape} was given; its channels may come first or last: give a tensor, whose channels"
            " come first"
        )
    if not (first or last):
        forms = f"[{c},H,W], [H,W,{c}], [N,{c},H,W] or [N,H,W,{c}]"
        raise InvalidInput(f"{name} of shape {shape} was given; expected {forms}")
    return values if first else values.movedim(-1, -3)


def _scale(values: Tensor, name: str) -> Tensor:
    """Bytes as floats in [0,1]; floats checked."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    if not values.is_floating_point():
        raise InvalidInput(f"{name} of {values.dtype} was given; expected bytes (uint8) or floats in [0, 1]")
    if not values.numel():
        raise InvalidInput(f"{name} of shape {list(values.shape)} was given; expected at least one pixel")
    values = values.float()
    low, high = (float(end) for end in values.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # written so that NaN fails too
        raise InvalidInput(
            f"{name} in [{low:.3g}, {high:.3g}] was given; expected finite values in [0, 1]: divide bytes by 255"
        )
    return values


def _is_pillow(value: object) -> TypeGuard[Image.Image]:
    pillow = sys.modules.get("PIL.Image")  # whoever has an image has imported it
    return pillow is not None and isinstance(value, pillow.Image)
