"""Images whose leaves are their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from featureviz.image import color
from featureviz.image.base import Parameterization, Size, check_start, draw_noise, height_width
from featureviz.image.picture import Picture, as_tensor


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
        image_ids: Sequence[int] | None = None,
        image: Picture | None = None,
    ) -> None:
        super().__init__()
        self.matrix = nn.Buffer(color.correlation()) if decorrelate and channels == 3 else None
        if image is None:
            signal = draw_noise((n or 1, channels, *height_width(128 if size is None else size)), sd, seed, image_ids)
        else:
            signal = color.to_signal(check_start(as_tensor(image, channels), n, channels, size).cpu(), self.matrix)
        self.pixels = nn.Parameter(signal)

    def forward(self) -> Tensor:
        return color.to_image(self.pixels, self.matrix)
