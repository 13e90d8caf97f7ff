"""Images with the amplitudes of photographs, of which only the phases move."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from featureviz.checks import finite
from featureviz.errors import InvalidInput
from featureviz.image import color
from featureviz.image.base import Parameterization, Size, check_shape, initial_rng
from featureviz.image.frequencies.template import natural_amplitude

LEAST = 8  # pixels a side


@final
class MacoImage(Parameterization):
    """N images ``sigmoid(C irfft2(r e^(i p)))``: r the amplitudes of photographs, p the phases, which are the leaf.

    No frequency can become strong, so that an image has to be made of structure (Fel et al. 2023, "Unlocking Feature
    Visualization for Deeper Networks with MAgnitude Constrained Optimization"). r is ``natural_amplitude``; its
    frequency 0 is 0. The leaf is ``[N,3,H,W//2+1]``, uniform in (-pi, pi) at the start. It is never standardised: that
    would gather energy in one corner. Where a real image has pairs of frequencies in one column, the phase of the
    pair is ``p(f) - p(-f)``; so ``|rfft2|`` of the signal is r everywhere.

    An ascent adds up the absolute gradient of each pixel, which shows where an image matters:
    ``Rendering.transparent()``. ``fv.maco()`` is the preset with the optimizer and the views for it.

    Args:
        n: number of images.
        size: side, or (height, width), in pixels, each at least 8; 512 or more suit crops.
        channels: 3: amplitudes are known for photographs in colour.
        contrast: a factor for r.
        seed: of the first phases.
        image_ids: as for ``FourierImage``.

    >>> MacoImage(2, (33, 48))().shape
    torch.Size([2, 3, 33, 48])
    """

    keeps_slope = True

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        contrast: float = 1.0,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        n, channels, height, width = check_shape(n, channels, size)
        if channels != 3:
            raise InvalidInput(
                f"MacoImage was asked for {channels} channels; it knows the amplitudes of colour photographs:"
                " expected 3, or use GreyImage or FourierImage"
            )
        if min(height, width) < LEAST:
            raise InvalidInput(f"MacoImage was asked for {height}x{width} pixels; expected at least {LEAST} a side")
        self.size, self.matrix = (height, width), nn.Buffer(color.correlation())
        self.amplitude = nn.Buffer(finite("contrast", contrast, 0, 1e3) * natural_amplitude(height, width))
        rng = initial_rng(n, seed, image_ids)
        self.phase = nn.Parameter(rng.uniform(-math.pi, math.pi, tuple(self.amplitude.shape)))

    def forward(self) -> Tensor:
        return color.to_image(self.signal(), self.matrix)

    def signal(self) -> Tensor:
        """``irfft2(r e^(i p))``, ``[N,3,H,W]``: what colour matrix and sigmoid make an image of."""
        columns = [pair(self.phase[..., :1]), self.phase[..., 1:]]
        if self.size[1] % 2 == 0:
            columns[1:] = [self.phase[..., 1:-1], pair(self.phase[..., -1:])]
        return torch.fft.irfft2(torch.polar(self.amplitude, torch.cat(columns, -1)), s=self.size)


def pair(phase: Tensor) -> Tensor:
    """Phases of a column ``[...,H,1]`` in which f and -f are both there: those of -f are the negatives.

    A frequency that is its own negative, 0 or 1/2, gets the phase 0.
    """
    return phase - phase.flip(-2).roll(1, -2)
