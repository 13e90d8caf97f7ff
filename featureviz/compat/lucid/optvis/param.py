"""Lucid's parameterizations. Shapes are Lucid's, ``[N,H,W,C]``; what they make is featureviz's, ``[N,C,H,W]``.

``fft_image``, ``pixel_image`` and the others are signals, which can be added and multiplied with numbers, and which
``to_valid_rgb`` makes images of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featureviz.checks import finite, flag, show, whole, wholes
from featureviz.errors import InvalidInput
from featureviz.image import AlphaImage, CPPNImage, FourierImage, GreyImage, Parameterization, PixelImage, color
from featureviz.image.base import draw_noise
from featureviz.image.frequencies.fourier import frequency_scale, to_space

_SEED: ContextVar[int] = ContextVar("seed of Lucid's parameterizations", default=0)
FAR = 1 << 20  # between the seeds of two signals


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block, parameterizations start from this seed; Lucid's own have none."""
    token = _SEED.set(seed)
    try:
        yield
    finally:
        _SEED.reset(token)


def image(
    w: int,
    h: int | None = None,
    batch: int | None = None,
    sd: float | None = None,
    decorrelate: bool = True,
    fft: bool = True,
    alpha: bool = False,
    channels: int | None = None,
) -> Parameterization:
    """The usual images: Fourier or pixels, with or without decorrelated colour, transparency, or other channels."""
    kind: Any = FourierImage if flag("fft", fft) else PixelImage
    options: dict[str, Any] = {"decorrelate": decorrelate, "sd": 0.01 if sd is None else sd, "seed": _SEED.get()}
    n, size = 1 if batch is None else batch, (w if h is None else h, w)
    if flag("alpha", alpha):
        if channels not in (None, 3):
            raise InvalidInput(f"param.image(alpha=True, channels={show(channels)}) was given; expected 3 with alpha")
        return AlphaImage(n, size, of=kind, **options)
    return kind(n, size, channels=3 if channels is None else channels, **options)


def grayscale_image_rgb(w: int, h: int | None = None, batch: int | None = None, **options: Any) -> Parameterization:
    """Grey images of three channels."""
    return GreyImage(1 if batch is None else batch, (w if h is None else h, w), seed=_SEED.get(), **options)


def cppn(
    width: int,
    batch: int = 1,
    num_output_channels: int = 3,
    num_hidden_channels: int = 24,
    num_layers: int = 8,
    activation_func: Callable[..., Tensor] | None = None,
    normalize: bool = False,
) -> Parameterization:
    """Images drawn by networks, with Lucid's composite activation."""
    if activation_func is not None or normalize:
        raise InvalidInput("cppn(activation_func=, normalize=) was given; expected Lucid's defaults, None and False")
    return CPPNImage(
        batch, width, channels=num_output_channels, hidden=num_hidden_channels, layers=num_layers, seed=_SEED.get()
    )


class Signal(nn.Module):
    """Unbounded values ``[N,C,H,W]`` in the making: a sum of parts, each a leaf and what enlarges it."""

    def __init__(self, parts: Sequence[tuple[nn.Parameter, Callable[[Tensor], Tensor]]], bias: float = 0.0) -> None:
        super().__init__()
        self.leaves = nn.ParameterList(leaf for leaf, _ in parts)
        self.decoders, self.bias = [decode for _, decode in parts], bias

    def forward(self) -> Tensor:
        parts = [decode(leaf) for leaf, decode in zip(self.leaves, self.decoders, strict=True)]
        shown = [part.expand(max(len(p) for p in parts), -1, -1, -1) for part in parts]
        return torch.stack(shown).sum(0) + self.bias

    def __add__(self, other: Signal | float) -> Signal:
        if isinstance(other, Signal):
            pairs = [*zip(self.leaves, self.decoders, strict=True), *zip(other.leaves, other.decoders, strict=True)]
            return Signal(pairs, self.bias + other.bias)
        return Signal([*zip(self.leaves, self.decoders, strict=True)], self.bias + finite("a number", other))

    __radd__ = __add__

    def __mul__(self, factor: float) -> Signal:
        factor = finite("a factor", factor)
        scaled = [_times(decode, factor) for decode in self.decoders]
        return Signal([*zip(self.leaves, scaled, strict=True)], self.bias * factor)

    __rmul__ = __mul__


def _times(decode: Callable[[Tensor], Tensor], factor: float) -> Callable[[Tensor], Tensor]:
    return lambda leaf: factor * decode(leaf)


def fft_image(shape: Sequence[int], sd: float | None = None, decay_power: float = 1) -> Signal:
    """Scaled Fourier coefficients, ``[N,H,W,C]``."""
    n, height, width, channels = wholes("shape", shape, 1, count=4)
    scale = frequency_scale(height, width, finite("decay_power", decay_power, -4, 4))
    leaf = _noise((n, channels, *scale.shape, 2), sd)
    return Signal([(leaf, lambda leaf: to_space(leaf, scale.to(leaf), (height, width)))])


def pixel_image(shape: Sequence[int], sd: float | None = None, init_val: Any = None) -> Signal:
    """Pixels, ``[N,H,W,C]``, that start from noise or from the array ``init_val`` of this shape."""
    n, height, width, channels = wholes("shape", shape, 1, count=4)
    if init_val is None:
        return Signal([(_noise((n, channels, height, width), sd), lambda leaf: leaf)])
    start = torch.as_tensor(init_val, dtype=torch.float32)
    if start.shape != (n, height, width, channels):
        raise InvalidInput(f"init_val of shape {list(start.shape)} was given; expected {[n, height, width, channels]}")
    return Signal([(nn.Parameter(start.movedim(-1, 1).contiguous()), lambda leaf: leaf)])


def lowres_tensor(
    shape: Sequence[int], underlying_shape: Sequence[int], offset: Any = None, sd: float | None = None
) -> Signal:
    """A smaller tensor ``[n,h,w,C]``, enlarged to ``[N,H,W,C]``; n may be smaller than N, so that images share it."""
    n, height, width, channels = wholes("shape", shape, 1, count=4)
    m, h, w, c = wholes("underlying_shape", underlying_shape, 1, count=4)
    if c != channels or n % m:
        raise InvalidInput(
            f"lowres_tensor({list(shape)}, {list(underlying_shape)}) was given; expected as many channels, and a number"
            " of images that divides the first one"
        )
    shift = (height // h // 2, width // w // 2) if offset else (0, 0)

    def enlarge(leaf: Tensor) -> Tensor:
        large = F.interpolate(leaf, (height, width), mode="bilinear", align_corners=False)
        padded = F.pad(large, (shift[1], 0, shift[0], 0), mode="reflect") if offset else large
        return padded[:, :, :height, :width].repeat_interleave(n // m, 0)

    return Signal([(_noise((m, channels, h, w), sd), enlarge)])


def laplacian_pyramid_image(shape: Sequence[int], n_levels: int = 4, sd: float | None = None) -> Signal:
    """The sum of ``lowres_tensor`` at half the size, a quarter, ..., and of pixels."""
    n, height, width, channels = wholes("shape", shape, 1, count=4)
    sizes = [(max(1, height >> j), max(1, width >> j)) for j in range(whole("n_levels", n_levels, 1, 16))]
    levels = [lowres_tensor(shape, (n, h, w, channels), sd=sd) for h, w in sizes]
    total = levels[0]
    for level in levels[1:]:
        total = total + level
    return total


def to_valid_rgb(t: Signal, decorrelate: bool = False, sigmoid: bool = True) -> Parameterization:
    """Images of a signal: the colour matrix if ``decorrelate`` (and the colour mean, as Lucid has it, without
    ``sigmoid``), then a sigmoid, or clipping.
    """
    if not isinstance(t, Signal):
        raise InvalidInput(f"to_valid_rgb({show(t)}) was given; expected param.fft_image(...) or another signal")
    return _SignalImage(t, flag("decorrelate", decorrelate), flag("sigmoid", sigmoid))


@final
class _SignalImage(Parameterization):
    MEAN = (0.48, 0.46, 0.41)

    def __init__(self, signal: Signal, decorrelate: bool, sigmoid: bool) -> None:
        super().__init__()
        self.signal, self.sigmoid = signal, sigmoid
        with torch.no_grad():
            self.n, channels = signal().shape[:2]
        self.matrix = color.channels_matrix(decorrelate, channels)
        self.mean = nn.Buffer(torch.tensor(self.MEAN).view(1, 3, 1, 1)) if self.matrix is not None else None
        self.across_batch = any(len(leaf) != self.n for leaf in signal.leaves)

    def __len__(self) -> int:
        return int(self.n)

    def forward(self) -> Tensor:
        if self.sigmoid:
            return color.to_image(self.signal(), self.matrix)
        signal = self.signal()
        if self.matrix is not None and self.mean is not None:
            signal = torch.einsum("dc,nchw->ndhw", self.matrix, signal) + self.mean
        return signal.clamp(0, 1)


def _noise(shape: tuple[int, ...], sd: float | None) -> nn.Parameter:
    """A leaf of noise; each shape has a seed of its own, so that the levels of a pyramid differ."""
    seed = (_SEED.get() + FAR * sum(shape)) % (1 << 62)
    return nn.Parameter(draw_noise(shape, 0.01 if sd is None else sd, seed))
