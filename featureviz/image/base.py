"""The contract of an image parameterization, and what is asked of its size and its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from featureviz.checks import SEEDS, finite, show, whole, wholes
from featureviz.errors import InvalidInput
from featureviz.rng import INITIAL, Rng, number_images

Size = int | tuple[int, int]
SIDE = 2**20  # pixels
VALUES = 2**27  # of a batch of images; an ascent takes about 60 bytes for each, so 8 gigabytes
CHANNELS = 2**12


class Parameterization(nn.Module, ABC):
    """N images as leaves and a differentiable decoder: abstract.

    ``forward() -> [N,C,H,W]`` float32 in (0,1), without randomness. Every leaf has one row for each image. The initial
    row i depends on the seed and on i, but not on N, so an image starts the same in every batch.

    Attributes:
        rows: names of the buffers that have one row for each image, as every leaf has.
        alpha: whether the last channel says how much is seen of each pixel; it comes on top of the network's channels.
        across_batch: whether images share leaves; such a batch is never split, and image i depends on the others.
        keeps_slope: whether an ascent adds up how much each pixel matters (``Ascent.slope``).
    """

    rows: tuple[str, ...] = ()
    alpha: bool = False
    across_batch: bool = False
    keeps_slope: bool = False

    @abstractmethod
    def forward(self) -> Tensor: ...

    def __len__(self) -> int:
        leaf = next(self.parameters(), None)
        if leaf is None or not leaf.ndim:
            given = "no parameters" if leaf is None else "a first parameter without rows"
            raise InvalidInput(f"{type(self).__name__} has {given}; expected leaves [N, ...], one row for each image")
        return len(leaf)


Make: TypeAlias = Callable[..., Parameterization]  # of the number of images, their size, and options by name


def make_part(of: Make, n: Any, size: Any = None, **options: Any) -> Parameterization:
    """The parameterization inside another one, ``of(n, size, **options)``, checked to be one."""
    if not callable(of):
        raise InvalidInput(f"of={show(of)} was given; expected a parameterization's class, such as FourierImage")
    try:
        made = of(n, size, **options)
    except TypeError as error:
        raise InvalidInput(f"of={show(of)} makes no images: {error}; expected such as FourierImage") from error
    if not isinstance(made, Parameterization):
        raise InvalidInput(f"of={show(of)} made {show(made)}; expected a parameterization, such as FourierImage makes")
    return made


def check_images(image: Parameterization, channels: int) -> Tensor:
    """The images ``[N,channels,H,W]`` of a parameterization that keeps its contract; synchronises with the host.

    Raises ``InvalidInput`` that names the class and what is wrong.

    >>> from featureviz.image import FourierImage
    >>> check_images(FourierImage(2, 8), 3).shape
    torch.Size([2, 3, 8, 8])
    """
    who, n, channels = type(image).__name__, len(image), channels + image.alpha
    leaves = {name: leaf for name, leaf in image.named_parameters() if leaf.requires_grad}
    for name, leaf in leaves.items():
        if leaf.shape[:1] != (n,) and not image.across_batch:
            raise InvalidInput(
                f"{who}.{name} is {list(leaf.shape)} for {n} images; expected one row for each image, [{n}, ...]: what"
                " images share is a buffer"
            )
    with torch.enable_grad():
        images = image()
    expected = f"expected [{n},{channels},H,W] of float32 in (0,1)"
    if not isinstance(images, Tensor):
        raise InvalidInput(f"{who}.forward() gave {show(images)}; {expected}")
    shape, device = images.shape, next(image.parameters()).device
    if images.ndim != 4 or shape[:2] != (n, channels) or not images.numel() or images.dtype != torch.float32:
        raise InvalidInput(f"{who}.forward() gave {list(shape)} of {images.dtype}; {expected}")
    if images.device != device:
        raise InvalidInput(f"{who}.forward() gave images on {images.device}, its leaves are on {device}: {expected}")
    if not leaves or not images.requires_grad:
        raise InvalidInput(f"{who}.forward() does not depend on a parameter, so there is nothing to climb; {expected}")
    images = images.detach()
    low, high = (float(end) for end in images.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise InvalidInput(f"{who}.forward() gave values from {low:.3g} to {high:.3g}; {expected}: end with a sigmoid")
    return images


def height_width(size: Any) -> tuple[int, int]:
    """The size in pixels, a side or a pair, as (height, width).

    >>> height_width(128), height_width((97, 64))
    ((128, 128), (97, 64))
    """
    try:
        if isinstance(size, Iterable) and getattr(size, "ndim", 1) == 1:
            height, width = wholes("size", size, 1, SIDE, count=2)
        else:
            height = width = whole("size", size, 1, SIDE)
    except InvalidInput as error:
        raise InvalidInput(
            f"size={show(size)} was given; expected a whole number of at least 1 pixel, or (height, width)"
        ) from error
    return height, width


def fit_size(size: Size | None, image: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image whose short side becomes ``size``; that pair, or its own size for None.

    >>> fit_size(32, (64, 96)), fit_size((20, 30), (64, 96)), fit_size(None, (64, 96))
    ((32, 48), (20, 30), (64, 96))
    """
    if size is None:
        return image
    if isinstance(size, int):
        factor = size / min(image)
        return round(image[0] * factor), round(image[1] * factor)
    return height_width(size)


def check_shape(n: int | None, channels: int, size: Size | None) -> tuple[int, int, int, int]:
    """(n, channels, height, width) of a batch that memory has room for; 1 image of 128 pixels by default."""
    n, channels = whole("n", 1 if n is None else n, 1), whole("channels", channels, 1, CHANNELS)
    height, width = height_width(128 if size is None else size)
    if n * channels * height * width > VALUES:
        raise InvalidInput(
            f"{n} images of {channels} x {height} x {width} were asked for; a batch has at most {VALUES:,} values: give"
            f" a smaller size, or at most {VALUES // (channels * height * width)} images at once"
        )
    return n, channels, height, width


def draw_noise(shape: tuple[int, ...], sd: float, seed: int, image_ids: Iterable[int] | None = None) -> Tensor:
    """``[N, ...]`` normal numbers of standard deviation ``sd``, on the CPU.

    Row i is a hash of (seed, image_ids[i]), by default of (seed, i).
    """
    return finite("sd", sd, 0, 1e6) * initial_rng(shape[0], seed, image_ids).normal(shape[1:])


def initial_rng(n: int, seed: int, image_ids: Iterable[int] | None = None) -> Rng:
    """The random numbers of the leaves of ``n`` images, on the CPU."""
    return Rng(whole("seed", seed, *SEEDS), number_images(n, image_ids), step=INITIAL)
