"""Images whose leaves are their Fourier spectrum, scaled by the amplitudes of natural images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from featureviz.checks import finite
from featureviz.image import color
from featureviz.image.base import Parameterization, Size, draw_noise
from featureviz.image.picture import Picture, add_rest, find_start


def frequency_scale(height: int, width: int, decay: float, device: torch.device | str = "cpu") -> Tensor:
    """``sqrt(HW) / max(f, 1 / max(H, W))^decay / 4``, ``[H, W//2+1]``, f in cycles per pixel.

    Amplitudes of natural images fall as 1/f. The square root undoes the normalisation of irfft2. The 4 is Lucid's; with
    ``sd=0.01`` it gives Lucid's initial contrast.
    """
    fy = torch.fft.fftfreq(height, dtype=torch.float32, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, dtype=torch.float32, device=device)[None, :]
    f = torch.sqrt(fx**2 + fy**2).clamp(min=1.0 / max(height, width))
    return (height * width) ** 0.5 / f**decay / 4.0


def to_space(spectrum: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """The signal ``[N,C,H,W]`` of scaled coefficients ``[N,C,H,W//2+1,2]``.

    A single transform is rounded in another way than several together. So it is done twice, and a grey image alone is
    to the bit what it is in a batch.
    """
    coefficients = torch.view_as_complex(spectrum) * scale
    single = coefficients.shape[:2].numel() == 1
    signal = torch.fft.irfft2(coefficients.repeat(2, 1, 1, 1) if single else coefficients, s=size)
    return signal[:1] if single else signal


@final
class FourierImage(Parameterization):
    """N images of scaled Fourier coefficients: ``sigmoid(C irfft2(s * z))`` (Lucid's ``fft_image``).

    z is the leaf ``[N,C,H,W//2+1,2]`` (real and imaginary part), s is ``frequency_scale``, C the colour matrix.

    Args:
        n: number of images; by default that of ``image``, or 1.
        size: side, or (height, width), in pixels, even or odd; by default that of ``image``, or 128.
        channels: 3 for RGB; any other number has no colour to decorrelate.
        decorrelate: use decorrelated colour (RGB only).
        decay: power of 1/f in the scale; 1 is that of natural images, a larger one gives smoother images.
        sd: standard deviation of the initial noise in z (Lucid: 0.01).
        seed: of the initial noise.
        image_ids: the noise of image i is a hash of (seed, image_ids[i]); by default of (seed, i).
        image: a picture (a path, a PIL image, an array or a tensor) to start from, and not from noise. The first image
            is the picture itself. As from noise, a step changes low frequencies most (feature accentuation, Hamblin et
            al. 2024).

    The image wraps: its left edge continues its right one. Views show this seam with ``fv.transform.Roll``.

    >>> FourierImage(2, (5, 7))().shape
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
        decay: float = 1.0,
        sd: float = 0.01,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
        image: Picture | None = None,
    ) -> None:
        super().__init__()
        start, (n, channels, *sides) = find_start(image, n, channels, size)
        self.matrix = color.channels_matrix(decorrelate, channels)
        self.size = (sides[0], sides[1])
        self.scale = nn.Buffer(frequency_scale(*self.size, finite("decay", decay, -4, 4)))  # [H, W//2+1]
        if start is None:
            leaf = draw_noise((n, channels, *self.scale.shape, 2), sd, seed, image_ids)
        else:
            spectrum = torch.fft.rfft2(color.to_signal(start.cpu(), self.matrix))
            leaf = torch.view_as_real(spectrum / self.scale)
        self.spectrum = nn.Parameter(leaf.contiguous())
        self.rest = None if start is None else nn.Buffer(start.cpu() - self._decode().detach())

    def forward(self) -> Tensor:
        return add_rest(self._decode(), self.rest)

    def _decode(self) -> Tensor:
        return color.to_image(to_space(self.spectrum, self.scale, self.size), self.matrix)
