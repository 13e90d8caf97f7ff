"""Images with transparency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from featureviz.checks import show, whole
from featureviz.errors import InvalidInput
from featureviz.image.base import CHANNELS, Make, Parameterization, Size, make_part
from featureviz.image.frequencies.fourier import FourierImage
from featureviz.image.picture import Picture, check_pictures

OTHER = 1 << 40  # the bit of the seed in which colour and transparency differ


@final
class AlphaImage(Parameterization):
    """N images ``[N,C+1,H,W]`` whose last channel is alpha: 0 where nothing is seen, 1 where the colour is (Lucid).

    In each step every view lies on a random background, so that only what the objective needs becomes opaque
    (Mordvintsev et al. 2018, "Differentiable Image Parameterizations"). Objectives read the alpha channel ``[M,1,H,W]``
    of the image as the layer ``".alpha"``: ``goal * (1 - fv.Channel(".alpha", 0))`` rewards small features. The
    backgrounds are Fourier images of a contrast like photographs'.

    Args:
        n: number of images.
        size: side, or (height, width), in pixels.
        channels: of the network, 1 or 3.
        of: makes the images that are the colour, and those of one channel that are alpha, such as ``fv.PixelImage``.
        image: a picture ``[C+1,H,W]`` to start from.
        seed: of both.
        image_ids: as for ``FourierImage``.
        options: of ``of``: sd, decorrelate ...

    >>> AlphaImage(2, 32)().shape
    torch.Size([2, 4, 32, 32])
    """

    alpha = True

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        of: Make = FourierImage,
        image: Picture | None = None,
        seed: int = 0,
        image_ids: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if whole("channels", channels, 1, CHANNELS) not in (1, 3):
            raise InvalidInput(
                f"AlphaImage was asked for with channels={show(channels)}; expected 1 or 3: only grey and colour have"
                " transparency, and an image of other channels has no picture to be seen through"
            )
        parts = (None, None) if image is None else check_pictures(image, channels + 1, "image").split(channels, 1)
        own = [options if part is None else {**options, "image": part} for part in parts]
        self.colour = make_part(of, n, size, channels=channels, seed=seed, image_ids=image_ids, **own[0])
        self.opacity = make_part(of, n, size, channels=1, seed=seed ^ OTHER, image_ids=image_ids, **own[1])

    def forward(self) -> Tensor:
        return torch.cat([self.colour(), self.opacity()], 1)
