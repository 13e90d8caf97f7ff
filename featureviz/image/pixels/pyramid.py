"""Images that are sums of pixels at several resolutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featureviz.checks import finite, whole
from featureviz.image import color
from featureviz.image.base import Parameterization, Size, initial_rng
from featureviz.image.picture import Picture, add_rest, find_start

MOST_LEVELS = 16


@final
class PyramidImage(Parameterization):
    """N images that are a Laplacian pyramid: ``sigmoid(C sum_j up(x_j))`` (Lucid's ``laplacian_pyramid_image``).

    The leaf x_j is ``[N,C,ceil(H/2^j),ceil(W/2^j)]``, and ``up`` enlarges it to the image, bilinearly. A step changes
    coarse structure as much as fine structure, so that images are smoother than those of ``PixelImage``.

    Args: as for ``FourierImage``; instead of ``decay``, ``levels`` is how many resolutions there are, 1 for pixels
    alone. ``sd`` is that of every level. A starting ``image`` is put into the finest level.

    >>> image = PyramidImage(2, (37, 64))
    >>> image().shape, [tuple(level.shape[2:]) for level in image.levels]
    (torch.Size([2, 3, 37, 64]), [(37, 64), (19, 32), (10, 16), (5, 8)])
    """

    rows = ("rest",)

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        decorrelate: bool = True,
        levels: int = 4,
        sd: float = 0.01,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
        image: Picture | None = None,
    ) -> None:
        super().__init__()
        start, (n, channels, *sides) = find_start(image, n, channels, size)
        self.matrix, self.size = color.channels_matrix(decorrelate, channels), (sides[0], sides[1])
        shapes = [
            (channels, -(-sides[0] // 2**j), -(-sides[1] // 2**j))
            for j in range(whole("levels", levels, 1, MOST_LEVELS))
        ]
        if start is None:
            rng, sd = initial_rng(n, seed, image_ids), finite("sd", sd, 0, 1e6)
            values = [sd * rng.normal(shape) for shape in shapes]
        else:
            values = [torch.zeros(n, *shape, dtype=torch.float32, device="cpu") for shape in shapes]
            values[0] = color.to_signal(start.cpu(), self.matrix)
        self.levels = nn.ParameterList(values)
        self.rest = None if start is None else nn.Buffer(start.cpu() - self._decode().detach())

    def forward(self) -> Tensor:
        return add_rest(self._decode(), self.rest)

    def _decode(self) -> Tensor:
        finest, *coarse = self.levels
        signal = finest
        for level in coarse:
            signal = signal + F.interpolate(level, self.size, mode="bilinear", align_corners=False)
        return color.to_image(signal, self.matrix)
