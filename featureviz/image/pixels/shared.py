"""Images that share their coarse structure, so that a series of them can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from featureviz.checks import finite, wholes
from featureviz.image import color
from featureviz.image.base import Parameterization, Size, check_shape, draw_noise, initial_rng
from featureviz.image.frequencies.fourier import frequency_scale, to_space

COARSEST = 2**10  # pixels of a cell
TOGETHER = 2**62  # stands for an image's number where all images share the numbers


@final
class SharedImage(Parameterization):
    """N images with coarse parts in common: ``sigmoid(C (irfft2(s z_i) + sum_f up(x_f)))`` (Lucid's aligned images).

    z_i is the own spectrum of image i (as in ``FourierImage``). x_f is one leaf ``[1,C,h,w]`` for all images, with one
    value for ``f x f`` pixels. Its grid is shifted by a part of a cell that depends on the seed. So the images have
    their parts at the same places, which a series between two objectives needs (Mordvintsev et al. 2018,
    "Differentiable Image Parameterizations").

    The images depend on each other: this is the one parameterization whose image i is not the same alone.

    Args: as for ``FourierImage``, without ``image``; ``factors`` are the values f.

    >>> SharedImage(4, (33, 50))().shape
    torch.Size([4, 3, 33, 50])
    """

    across_batch = True

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        decorrelate: bool = True,
        factors: Sequence[int] = (2, 4, 8, 16),
        decay: float = 1.0,
        sd: float = 0.01,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        n, channels, height, width = check_shape(n, channels, size)
        self.matrix, self.size = color.channels_matrix(decorrelate, channels), (height, width)
        self.scale = nn.Buffer(frequency_scale(height, width, finite("decay", decay, -4, 4)))
        self.spectrum = nn.Parameter(draw_noise((n, channels, *self.scale.shape, 2), sd, seed, image_ids))
        self.factors = tuple(wholes("factors", factors, 1, COARSEST))
        rng = initial_rng(1, seed, [TOGETHER])
        self.offsets = [[int(rng.integers()) % factor for _ in range(2)] for factor in self.factors]
        self.shared = nn.ParameterList(  # a cell more than the image needs, to shift by
            sd * rng.normal((channels, -(-height // factor) + 1, -(-width // factor) + 1)) for factor in self.factors
        )

    def forward(self) -> Tensor:
        (height, width), signal = self.size, to_space(self.spectrum, self.scale, self.size)
        for factor, (dy, dx), cells in zip(self.factors, self.offsets, self.shared, strict=True):
            large = F.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
            signal = signal + large[..., dy : dy + height, dx : dx + width]
        return color.to_image(signal, self.matrix)
