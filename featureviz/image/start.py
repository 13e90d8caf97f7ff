"""The images that a render starts from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.image.base import Parameterization, Size
from featureviz.image.fourier import FourierImage


class MakeImages(Protocol):
    """A factory of ``n`` images of ``size``: ``make(n, size, seed=, image_ids=)``.

    Image i depends on ``seed`` and on ``image_ids[i]`` (by default i) alone.
    """

    def __call__(
        self, n: int, size: Size, /, *, seed: int = 0, image_ids: Sequence[int] | None = None
    ) -> Parameterization: ...


def start_images(
    image: Tensor | Parameterization | MakeImages | None,
    n: int,
    size: Size,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    channels: int = 3,
) -> Parameterization:
    """``n`` images to optimise, from what the caller gave as ``image``.

    Args:
        image: a picture ``[C,H,W]`` or ``[N,C,H,W]`` in [0,1]; a parameterization, which is copied; a factory; or None
            for a ``FourierImage`` that starts from noise.
        n: number of images; with ``image_ids``, 1 stands for their number.

    Raises:
        InvalidInput: the factory returns something else than ``n`` images.

    >>> len(start_images(None, 1, 64, image_ids=[3, 5])), start_images(None, 2, (48, 64))().shape
    (2, torch.Size([2, 3, 48, 64]))
    """
    if isinstance(image, Tensor):
        return FourierImage(n if n > 1 else None, image=image, channels=channels)
    if isinstance(image, Parameterization):
        return copy.deepcopy(image)
    make = partial(FourierImage, channels=channels) if image is None else image
    n = n if image_ids is None or n > 1 else len(image_ids)
    images = make(n, size, seed=seed, image_ids=image_ids)
    if not isinstance(images, Parameterization) or len(images) != n:
        count = f" of {len(images)}" if isinstance(images, Parameterization) else ""
        raise InvalidInput(f"image({n}, {size}, seed={seed}) gave {type(images).__name__}{count}; expected {n} images")
    return images
