"""The images that a render starts from."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from torch import nn

from featureviz.errors import InvalidInput
from featureviz.files import show_path
from featureviz.image.base import Parameterization, Size
from featureviz.image.frequencies.fourier import FourierImage
from featureviz.image.picture import Picture, as_tensor, is_picture


class MakeImages(Protocol):
    """A factory of ``n`` images of ``size``: ``make(n, size, seed=, image_ids=)``.

    Image i depends on ``seed`` and on ``image_ids[i]`` (by default i) alone.
    """

    def __call__(
        self, n: int, size: Size, /, *, seed: int = 0, image_ids: Sequence[int] | None = None
    ) -> Parameterization: ...


Start: TypeAlias = "Picture | Parameterization | MakeImages | None"


def start_images(
    image: Start,
    n: int,
    size: Size,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    channels: int = 3,
) -> Parameterization:
    """``n`` images to optimise, from what the caller gave as ``image``.

    Args:
        image: a picture, which keeps its size: a path, a PIL image, an array or a tensor (``as_tensor``); a
            parameterization, which is copied; a factory; or None for a ``FourierImage`` that starts from noise.
        n: number of images; with ``image_ids``, 1 stands for their number.

    Raises:
        InvalidInput: it is none of these, it cannot be read, or the factory returns something else than ``n`` images.

    >>> len(start_images(None, 1, 64, image_ids=[3, 5])), start_images(None, 2, (48, 64))().shape
    (2, torch.Size([2, 3, 48, 64]))
    """
    if is_picture(image):
        return FourierImage(n if n > 1 else None, image=image, channels=channels)
    if isinstance(image, Parameterization):
        return copy.deepcopy(image)
    make = partial(FourierImage, channels=channels) if image is None else image
    n = n if image_ids is None or n > 1 else len(image_ids)
    images = _call_factory(make, n, size, seed=seed, image_ids=image_ids)
    if not isinstance(images, Parameterization) or len(images) != n:
        count = f" of {len(images)}" if isinstance(images, Parameterization) else ""
        raise InvalidInput(f"image({n}, {size}, seed={seed}) gave {type(images).__name__}{count}; expected {n} images")
    return images


def _call_factory(make: object, n: int, size: Size, **options: Any) -> object:
    if not callable(make) or isinstance(make, nn.Module):
        raise InvalidInput(
            f"image of type {type(make).__name__} was given; expected a picture (a path, a PIL image, an array or a"
            " tensor), a parameterization such as fv.PixelImage(1, 128), or what makes one, such as fv.PixelImage"
        )
    try:
        inspect.signature(make).bind(n, size, **options)
    except (TypeError, ValueError) as error:  # ValueError: a built-in type, which makes no images
        name = getattr(make, "__name__", type(make).__name__)
        raise InvalidInput(f"image={name} cannot be called as image(n, size, seed=, image_ids=): {error}") from error
    return make(n, size, **options)


def describe_start(image: Start, channels: int = 3) -> dict[str, str]:
    """What a recipe says of the picture that a render started from: its name or shape, and a hash of its pixels.

    >>> import numpy as np
    >>> describe_start(None), describe_start(np.zeros((3, 2, 5)))
    ({}, {'start': 'a picture [3, 2, 5], sha256 6edd9f6f9c'})
    """
    if not is_picture(image):
        return {}
    pixels = as_tensor(image, channels)
    name = show_path(image) if isinstance(image, str | os.PathLike) else "a picture"
    digest = hashlib.sha256(pixels.contiguous().cpu().numpy().tobytes()).hexdigest()[:10]
    return {"start": f"{name} {list(pixels.shape)}, sha256 {digest}"}
