"""Images of any size as a network's input."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.image.base import height_width
from featureviz.network.model import TappedModel, tapped


def check_units(site: str, units: Iterable[int], count: int) -> None:
    """Raise ``InvalidInput`` unless all ``units`` of a block are from 0 to ``count - 1``."""
    for unit in units:
        if not 0 <= unit < count:
            raise InvalidInput(f"unit {unit} of {site!r} was asked for; it has {count}: 0 to {count - 1}")


def fit_image(model: TappedModel, image: Tensor) -> Tensor:
    """``image`` ``[3,H,W]`` in [0,1], cropped at the centre and resized to the network's input size: ``[1,3,h,w]``.

    A network without an input size gets the image unchanged.
    """
    channels = tapped(model).channels
    if image.ndim != 3 or image.shape[0] != channels or not image.numel():
        raise InvalidInput(f"an image of shape {list(image.shape)} was given; expected one, [{channels},H,W]")
    if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InvalidInput(
            f"an image in [{image.min():.3g}, {image.max():.3g}] was given; expected finite values in [0, 1]: divide"
            " bytes by 255"
        )
    image = image.detach()[None].to(model.device, torch.float32)
    if model.size is None:
        return image
    size = height_width(model.size)
    factor = min(image.shape[2] / size[0], image.shape[3] / size[1])
    height, width = (max(1, round(s * factor)) for s in size)
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    crop = image[:, :, top : top + height, left : left + width]
    if crop.shape[2:] == size:
        return crop
    return interpolate(crop, size, mode="bilinear", antialias=True).clamp(0, 1)


def fit_images(model: TappedModel, images: Tensor) -> Tensor:
    """``fit_image`` for ``[3,H,W]`` or ``[N,3,H,W]`` in [0,1]: ``[N,3,h,w]``."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InvalidInput(f"images of type {given} were given; expected a float tensor in [0, 1]: divide bytes by 255")
    if images.ndim not in (3, 4) or not len(images):
        raise InvalidInput(f"images of shape {list(images.shape)} were given; expected [3,H,W] or [N,3,H,W]")
    return torch.cat([fit_image(model, image) for image in (images if images.ndim == 4 else images[None])])
