"""Images of any size as a network's input."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.image.base import height_width
from featureviz.image.picture import Picture, as_tensor, check_pictures
from featureviz.network.model import TappedModel, tapped


def check_units(site: str, units: Iterable[int], count: int) -> None:
    """Raise ``InvalidInput`` unless all ``units`` of a block are from 0 to ``count - 1``."""
    for unit in units:
        if not 0 <= unit < count:
            raise InvalidInput(f"unit {unit} of {site!r} was asked for; it has {count}: 0 to {count - 1}")


def fit_image(model: TappedModel, image: Picture) -> Tensor:
    """One picture, cropped at the centre and resized to the network's input size: ``[1,C,h,w]`` in [0,1].

    ``image`` is a path, a PIL image, an array or a tensor. A network without an input size gets it unchanged.
    """
    channels = tapped(model).channels
    picture = as_tensor(image, channels, "image")
    if picture.ndim != 3:
        raise InvalidInput(f"{len(picture)} images of shape {list(picture.shape)} were given; expected one")
    picture = picture[None].to(model.device)
    if model.size is None:
        return picture
    size = height_width(model.size)
    factor = min(picture.shape[2] / size[0], picture.shape[3] / size[1])
    height, width = (max(1, round(s * factor)) for s in size)
    top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
    crop = picture[:, :, top : top + height, left : left + width]
    if crop.shape[2:] == size:
        return crop
    return interpolate(crop, size, mode="bilinear", antialias=True).clamp(0, 1)


def fit_images(model: TappedModel, images: Picture) -> Tensor:
    """``fit_image`` for one picture, or for several ``[N,C,H,W]``: ``[N,C,h,w]``."""
    pictures = check_pictures(images, tapped(model).channels)
    return torch.cat([fit_image(model, picture) for picture in pictures])
