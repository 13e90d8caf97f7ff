"""Images whose leaves are their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from featureviz.checks import flag
from featureviz.image import color
from featureviz.image.base import Parameterization, Size, check_shape, draw_noise
from featureviz.image.picture import Picture, check_start


@final
class PixelImage(Parameterization):
    """N images of free pixels: ``sigmoid(C x)``, C the colour matrix, x the leaf ``[N,C,H,W]``.

    Args: as for ``FourierImage``, without ``decay``; ``sd`` is that of x; ``image`` is reproduced to within 5e-4.

    >>> PixelImage(2, (5, 7))().shape
    torch.Size([2, 3, 5, 7])
    """

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
        start = None if image is None else check_start(image, n, channels, size)
        shape = check_shape(n, channels, size) if start is None else start.shape
        self.matrix = nn.Buffer(color.correlation()) if flag("decorrelate", decorrelate) and shape[1] == 3 else None
        drawn = draw_noise(shape, sd, seed, image_ids) if start is None else color.to_signal(start.cpu(), self.matrix)
        self.pixels = nn.Parameter(drawn)

    def forward(self) -> Tensor:
        return color.to_image(self.pixels, self.matrix)
