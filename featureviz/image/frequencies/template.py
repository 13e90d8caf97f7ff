"""How strong each frequency is in photographs: measured once by ``scripts/measure_spectrum.py``, and kept as a file."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.image import color

CROP = 384  # pixels: the frequencies that are kept are multiples of 1/384 cycles per pixel
DARK = 0.02  # nearer to 0 and 1 a step of one byte is a large step before the sigmoid


def measure(pictures: Iterable[Tensor]) -> Tensor:
    """``[3,193,193]``: the logarithm of the mean amplitude of pictures ``[3,H,W]`` in [0,1], by (|f_y|, |f_x|).

    Each picture is read at its own resolution, since making it smaller changes what its fine detail is. It is cut into
    squares of 384 pixels; from each, in decorrelated colour before the sigmoid, the mean is taken off, and a Hann
    window keeps its edges from being frequencies. Amplitudes are those of an orthonormal transform, so that they do
    not depend on the size of the image. The mean over the squares is one of power. That over pictures is one of
    logarithms, so that no picture counts more for its contrast.
    """
    matrix, means = color.correlation(), []
    hann = torch.hann_window(CROP, periodic=True, dtype=torch.float32, device="cpu")
    window = hann[:, None] * hann[None, :]
    window = window / window.square().mean().sqrt()
    for picture in pictures:
        signal = color.to_signal(picture[None].clamp(DARK, 1 - DARK), matrix)
        squares = signal.unfold(2, CROP, CROP // 2).unfold(3, CROP, CROP // 2)[0].flatten(1, 2).transpose(0, 1)
        if not len(squares):
            raise InvalidInput(f"a picture of {list(picture.shape)} was given; expected at least {CROP} pixels a side")
        squares = (squares - squares.mean((2, 3), keepdim=True)) * window  # [S,3,384,384]
        power = torch.fft.rfft2(squares, norm="ortho").abs().square()
        folded = (power + power.flip(2).roll(1, 2))[:, :, : CROP // 2 + 1] / 2  # f_y and -f_y
        means.append(folded.mean(0).clamp(min=1e-12).log() / 2)
    if not means:
        raise InvalidInput("no picture was given; expected at least one")
    return torch.stack(means).mean(0)


@functools.cache
def _load() -> Tensor:
    with np.load(str(files("featureviz.image.frequencies") / "spectrum.npz")) as kept:
        return torch.from_numpy(kept["log_amplitude"].astype(np.float32))


def natural_amplitude(height: int, width: int) -> Tensor:
    """``[3,H,W//2+1]``: the amplitude of each frequency of an image of this size, as ``rfft2`` has it.

    The image's mean is 0, so that of frequency 0 is 0.

    >>> natural_amplitude(64, 48).shape
    torch.Size([3, 64, 25])
    """
    table = _load()[None]
    fy = torch.fft.fftfreq(height, dtype=torch.float32, device="cpu").abs()
    fx = torch.fft.rfftfreq(width, dtype=torch.float32, device="cpu")
    y, x = (4 * f.clamp(min=1 / CROP) - 1 for f in (fy, fx))  # the last row and column are frequency 1/2
    y, x = torch.where(fy > 0, y, -1.0), torch.where(fx > 0, x, -1.0)
    grid = torch.stack([x[None, :].expand(height, -1), y[:, None].expand(-1, len(x))], -1)[None]
    log = F.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True)[0]
    amplitude = log.exp() * math.sqrt(height * width)
    amplitude[:, 0, 0] = 0.0
    return amplitude
