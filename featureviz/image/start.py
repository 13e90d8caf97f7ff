"""The images that a render starts from, made of whatever the caller gave."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.image.base import Parameterization, Size
from featureviz.image.fourier import FourierImage


class MakeImages(Protocol):
    """Makes ``n`` images of ``size``; image i depends on ``seed`` and on its own number alone, ``image_ids[i]`` or i."""

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
    """``n`` images of what was asked for: a picture, a parameterization, what makes one, or noise by default.

    >>> len(start_images(None, 1, 64, image_ids=[3, 5])), start_images(None, 2, (48, 64))().shape
    (2, torch.Size([2, 3, 48, 64]))
    """
    if image is None:
        count = n if image_ids is None or n > 1 else len(image_ids)
        return FourierImage(count, size, seed=seed, image_ids=image_ids, channels=channels)
    if isinstance(image, Tensor):
        return FourierImage(n if n > 1 else None, image=image, channels=channels)
    if isinstance(image, Parameterization):
        return copy.deepcopy(image)
    made = image(n, size, seed=seed, image_ids=image_ids)
    if not isinstance(made, Parameterization) or len(made) != n:
        count = f" of {len(made)}" if isinstance(made, Parameterization) else ""
        raise InvalidInput(f"image({n}, {size}, seed={seed}) gave {type(made).__name__}{count}; expected {n} images")
    return made
