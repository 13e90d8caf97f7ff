"""Views that no ascent makes, to judge a picture by: compressed, blurred, and cropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featureviz.transform.base import Transform
from featureviz.transform.warps import Jitter, Scale

QUALITY, SIGMA = 75, 1.0  # of the JPEG; of the blur, in pixels


class Unseen(NamedTuple):
    """A kind of view: what is done with the picture itself, the transforms after that, and how many views there are."""

    change: Callable[[Tensor], Tensor]
    transforms: tuple[Transform, ...] = ()
    views: int = 1


def compress(images: Tensor) -> Tensor:
    """``[N,C,H,W]`` in [0,1] as JPEG keeps them at quality 75; channels that are no colours are grey pictures each."""
    n, c, h, w = images.shape
    pictures = images if c == 3 else images.reshape(n * c, 1, h, w)
    data = (255 * pictures.detach().float().clamp(0, 1)).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).squeeze(-1)
    read = torch.stack([torch.from_numpy(_recompress(array)) for array in data.numpy()])
    read = read.permute(0, 3, 1, 2) if c == 3 else read
    return (read.float() / 255).reshape(n, c, h, w).to(images)


def _recompress(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    data = iio.imwrite("<bytes>", picture, extension=".jpg", plugin="pillow", quality=QUALITY)
    return iio.imread(data, extension=".jpg", plugin="pillow")


def blur(images: Tensor) -> Tensor:
    """``[N,C,H,W]`` under a Gaussian of one pixel; the edge's pixels are repeated beyond it."""
    x = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(x**2) / (2 * SIGMA**2), 0)
    rows = F.pad(images.flatten(0, 1)[:, None], (3, 3, 3, 3), mode="replicate")  # [N*C,1,H+6,W+6]
    return F.conv2d(F.conv2d(rows, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1)).view(images.shape)


def unseen() -> dict[str, Unseen]:
    """The kinds of unseen views: the whole picture after JPEG, the same blurred, and crops of 0.6 to 0.85 of its side.

    >>> list(unseen())
    ['jpeg', 'blur', 'crop']
    """
    return {
        "jpeg": Unseen(compress),
        "blur": Unseen(blur),
        "crop": Unseen(lambda images: images, (Scale(1.18, 1.66), Jitter(24)), 4),
    }
