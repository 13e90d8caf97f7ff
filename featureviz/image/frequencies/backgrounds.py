"""Random backgrounds behind images with transparency."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz.image import color
from featureviz.image.frequencies.fourier import frequency_scale, to_space
from featureviz.rng import Rng

SD = 1.0  # of the coefficients: pixels then have a standard deviation of about 0.2, as in photographs; twice Lucid's


def multiply_alpha(images: Tensor) -> Tensor:
    """Colour times alpha, and alpha: only so may pixels ``[N,C+1,H,W]`` be averaged."""
    alpha = images[:, -1:]
    return torch.cat([images[:, :-1] * alpha, alpha], 1)


@final
class Backgrounds(nn.Module):
    """Lays views ``[M,C+1,h,w]`` with multiplied alpha over one random Fourier image each: ``[M,C,h,w]``."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Buffer(color.correlation())

    def forward(self, views: Tensor, rng: Rng) -> Tensor:
        channels, height, width = views.shape[1] - 1, views.shape[2], views.shape[3]
        scale = frequency_scale(height, width, 1.0, views.device)
        noise = SD * rng.normal((channels, height, width // 2 + 1, 2))
        matrix = self.matrix if channels == len(self.matrix) else None
        background = color.to_image(to_space(noise, scale, (height, width)), matrix)
        return views[:, :-1] + (1 - views[:, -1:]) * background.to(views.dtype)
