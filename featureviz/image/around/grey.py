"""Images without colour, for networks that want colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from featureviz.checks import whole
from featureviz.image.base import CHANNELS, Make, Parameterization, Size, make_part
from featureviz.image.frequencies.fourier import FourierImage


@final
class GreyImage(Parameterization):
    """N grey images as ``channels`` equal channels (Lucid's ``grayscale_image_rgb``).

    Args:
        n: number of images.
        size: side, or (height, width), in pixels.
        channels: of the network.
        of: makes the images of one channel, such as ``fv.PixelImage``.
        options: of ``of``: seed, image_ids, sd, image ...

    >>> GreyImage(2, 32)().shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        of: Make = FourierImage,
        seed: int = 0,
        image_ids: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.channels = whole("channels", channels, 1, CHANNELS)
        self.grey = make_part(of, n, size, channels=1, seed=seed, image_ids=image_ids, **options)

    def forward(self) -> Tensor:
        return self.grey().expand(-1, self.channels, -1, -1)
