"""Images whose leaves are their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from featureviz.image import color
from featureviz.image.base import Parameterization, Size, draw_noise
from featureviz.image.picture import Picture, add_rest, find_start


@final
class PixelImage(Parameterization):
    """N images of free pixels: ``sigmoid(C x)``, C the colour matrix, x the leaf ``[N,C,H,W]``.

    Args: as for ``FourierImage``, without ``decay``; ``sd`` is that of x.

    >>> PixelImage(2, (5, 7))().shape
    torch.Size([2, 3, 5, 7])
    """

    rows = ("rest",)

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        decorrelate: bool = True,
        sd: float = 0.01,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
        image: Picture | None = None,
    ) -> None:
        super().__init__()
        start, shape = find_start(image, n, channels, size)
        self.matrix = color.channels_matrix(decorrelate, shape[1])
        drawn = draw_noise(shape, sd, seed, image_ids) if start is None else color.to_signal(start.cpu(), self.matrix)
        self.pixels = nn.Parameter(drawn)
        self.rest = None if start is None else nn.Buffer(start.cpu() - self._decode().detach())

    def forward(self) -> Tensor:
        return add_rest(self._decode(), self.rest)

    def _decode(self) -> Tensor:
        return color.to_image(self.pixels, self.matrix)
