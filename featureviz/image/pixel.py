"""Images whose leaves are their pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from featureviz.image import color
from featureviz.image.base import Parameterization, Size, height_width, noise, starting


class PixelImage(Parameterization):
    """N images of free pixels: ``sigmoid(C x)``, C the colour matrix, x the leaf ``[N,C,H,W]``.

    Args:
        n: number of images; taken from ``image`` where left out, else 1.
        size: side, or (height, width), in pixels; taken from ``image`` where left out.
        channels: 3, or any other number, for which there is no colour to decorrelate.
        decorrelate: work in decorrelated colour (RGB only).
        sd: standard deviation of the initial noise in x (Lucid: 0.01).
        seed: image i starts from noise keyed by (seed, i),
        image_ids: or by (seed, image_ids[i]).
        image: start from this instead of noise: ``[C,H,W]`` or ``[N,C,H,W]`` in [0,1]; it comes back within 5e-4.

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
        image: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.matrix = nn.Buffer(color.correlation()) if decorrelate and channels == 3 else None
        if image is None:
            signal = noise((n or 1, channels, *height_width(128 if size is None else size)), sd, seed, image_ids)
        else:
            signal = color.to_signal(starting(image, n, channels, size).cpu(), self.matrix)
        self.pixels = nn.Parameter(signal)

    def forward(self) -> Tensor:
        return color.to_image(self.pixels, self.matrix)
