"""Random backgrounds behind images with transparency."""

from __future__ import annotations

import torch
from torch import Tensor

from featureviz.image import color
from featureviz.image.frequencies.fourier import frequency_scale, to_space
from featureviz.rng import Rng

SD = 1.0  # of the coefficients: pixels then have a standard deviation of about 0.2, as in photographs; twice Lucid's


def multiply_alpha(images: Tensor) -> Tensor:
    """Colour times alpha, and alpha: only so may pixels ``[N,C+1,H,W]`` be averaged."""
    alpha = images[:, -1:]
    return torch.cat([images[:, :-1] * alpha, alpha], 1)


def lay_over_backgrounds(views: Tensor, rng: Rng) -> Tensor:
    """Views ``[M,C+1,h,w]`` with multiplied alpha over one random Fourier image each: ``[M,C,h,w]``."""
    channels, height, width = views.shape[1] - 1, views.shape[2], views.shape[3]
    scale = frequency_scale(height, width, 1.0).to(views.device)
    noise = SD * rng.normal((channels, height, width // 2 + 1, 2))
    matrix = color.channels_matrix(True, channels)
    background = color.to_image(to_space(noise, scale, (height, width)), None if matrix is None else matrix.to(noise))
    return views[:, :-1] + (1 - views[:, -1:]) * background.to(views.dtype)
