"""The pipeline that turns N images into M = N * K views of the network's input size."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featureviz.checks import entries, flag, show
from featureviz.errors import InvalidInput
from featureviz.image.frequencies.backgrounds import Backgrounds, multiply_alpha
from featureviz.rng import Rng
from featureviz.transform.base import Pixelwise, Transform, Warp
from featureviz.transform.kornia import as_transform
from featureviz.transform.sampling.resampling import average, resample
from featureviz.transform.until import Until
from featureviz.transform.warps import robust


@final
class Pipeline(nn.Module):
    """Transforms in the given order: ``pipeline(images, rng, size, done)``, ``[N,C,H,W]`` to ``[N*K,C,h,w]``.

    The matrices of all warps are multiplied and the image is resampled once, directly to ``size``: each view from the
    image as it is, or averaged as much as the view shrinks it (``resample``). Pixelwise transforms come after that.
    Any other transform ends this: warps after it are a second resampling. ``done`` is the share of an ascent's steps
    that are done, 0 to 1, at which transforms in ``Until`` end.
    ``kornia.augmentation`` modules are accepted. All are copied, so what the caller gave is never moved or changed.

    With ``alpha`` the images are ``[N,C+1,H,W]`` and their last channel is alpha: after the first resampling each view
    is laid over a random background, which gives C channels.

    Raises ``InvalidInput`` that names the transform, if one breaks its contract.

    >>> from featureviz.transform import Jitter, Rotate
    >>> Pipeline([Jitter(8), Rotate(5)])(torch.rand(2, 3, 32, 32), Rng(0, 2, views=4), (24, 24)).shape
    torch.Size([8, 3, 24, 24])
    """

    def __init__(self, transforms: Iterable[nn.Module] | None = (), *, alpha: bool = False) -> None:
        super().__init__()
        self.alpha = flag("alpha", alpha)
        self.backgrounds = Backgrounds() if self.alpha else None
        given = list_transforms(transforms)
        try:
            self.transforms = nn.ModuleList(copy.deepcopy(given))
        except Exception as error:  # whatever a copy of the caller's own class raises
            raise InvalidInput(f"the transforms {show(given)} cannot be copied: {error}") from error

    def forward(self, images: Tensor, rng: Rng, size: tuple[int, int], done: float = 0.0) -> Tensor:
        return self._make_views(images, rng, size, done, look=False)

    def show(self, pictures: Tensor, rng: Rng, size: tuple[int, int], done: float = 0.0) -> Tensor:
        """Views of pictures ``[N,C,H,W]``; those of a pipeline with ``alpha`` are opaque."""
        opaque = torch.cat([pictures, torch.ones_like(pictures[:, :1])], 1) if self.alpha else pictures
        return self(opaque, rng, size, done)

    def acting(self, done: float) -> list[Transform]:
        """The transforms that take part after this share of the steps; those in ``Until`` without it."""
        acting: list[Transform] = []
        for given in self.transforms:
            transform = given
            while isinstance(transform, Until) and transform.acts(done):
                transform = transform.inner
            if isinstance(transform, Transform) and not isinstance(transform, Until):
                acting.append(transform)
        return acting

    def check(self, images: Tensor, rng: Rng, size: tuple[int, int]) -> None:
        """Raise ``InvalidInput`` that names the transform whose views are not finite; synchronises with the host."""
        self._make_views(images, rng, size, 0.0, look=True)

    def _make_views(self, images: Tensor, rng: Rng, size: tuple[int, int], done: float, *, look: bool) -> Tensor:
        full, views = (images.shape[-2], images.shape[-1]), rng.views
        images = multiply_alpha(images) if self.alpha else images
        for number, (warps, others) in enumerate(_stages(self.acting(done))):
            if warps:
                matrix = functools.reduce(torch.matmul, [_matrix(warp, rng, full, look=look) for warp in warps])
                flat = not any(warp.projective for warp in warps)
                images = resample(images, matrix, size, _span(warps), views, affine=flat)
            elif images.shape[-2:] != size:
                images = F.interpolate(average(images, size), size, mode="bilinear", align_corners=False)
            if len(images) < len(rng):
                images = images.repeat_interleave(views, 0)  # [M,C,h,w]
            views = 1
            if self.backgrounds is not None and number == 0:
                images = self.backgrounds(images, rng)
            for transform in others:
                images = _transformed(transform, images, rng, size, look=look)
        return images


def list_transforms(transforms: Iterable[nn.Module] | None) -> list[Transform]:
    """The transforms that a caller gave, checked: ``robust()`` for None, and kornia's made ours.

    >>> list_transforms(None)
    [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4)]
    """
    if transforms is None:
        return robust()
    return [as_transform(t) for t in entries("transforms", transforms, of="transforms")]


def _stages(transforms: Sequence[Transform]) -> list[tuple[list[Warp], list[Transform]]]:
    """Stages of one resampling each: its warps, and the transforms after it. The first may have no warps."""
    stages: list[tuple[list[Warp], list[Transform]]] = [([], [])]
    for transform in transforms:
        warps, others = stages[-1]
        if not isinstance(transform, Warp):
            others.append(transform)
        elif all(isinstance(t, Pixelwise) for t in others):
            warps.append(transform)
        else:
            stages.append(([transform], []))
    return stages


def _matrix(warp: Warp, rng: Rng, size: tuple[int, int], *, look: bool) -> Tensor:
    """The warp's matrices ``[M,3,3]``, checked."""
    matrix, rows = warp.matrix(rng, size), len(rng)
    fits = isinstance(matrix, Tensor) and matrix.shape == (rows, 3, 3) and matrix.is_floating_point()
    if not fits or matrix.device != rng.device:
        raise InvalidInput(
            f"{type(warp).__name__}.matrix gave {_describe(matrix)}; expected [{rows},3,3] of floats on {rng.device}"
        )
    if look:
        _check_finite(warp, "matrix", matrix)
    return matrix.float()


def _transformed(transform: Transform, images: Tensor, rng: Rng, size: tuple[int, int], *, look: bool) -> Tensor:
    """What a transform makes of views ``[M,C,h,w]``, checked."""
    draw, rows, name = transform.draw(rng, size), len(rng), type(transform).__name__
    if not isinstance(draw, tuple) or not all(isinstance(d, Tensor) and d.shape[:1] == (rows,) for d in draw):
        parts = [_describe(d) for d in draw] if isinstance(draw, (tuple, list)) else _describe(draw)
        raise InvalidInput(f"{name}.draw gave {parts}; expected a tuple of tensors with {rows} rows, one for each view")
    views = transform.transform(images, draw)
    same = isinstance(views, Tensor) and (views.shape, views.dtype, views.device) == (
        images.shape, images.dtype, images.device,
    )  # fmt: skip
    if not same:
        raise InvalidInput(
            f"{name}.transform turned {_describe(images)} into {_describe(views)}; a transform must keep the size, the"
            " type and the device: add a resize to it"
        )
    if images.requires_grad and torch.is_grad_enabled() and not views.requires_grad:
        raise InvalidInput(f"{name}.transform passes no gradient to the image; expected a differentiable function")
    if look:
        _check_finite(transform, "transform", views)
    return views


def _check_finite(transform: Transform, method: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise InvalidInput(f"{type(transform).__name__}.{method} gave values that are not finite; expected finite ones")


def _describe(value: Any) -> str:
    return f"{list(value.shape)} of {value.dtype} on {value.device}" if isinstance(value, Tensor) else show(value)


def _span(warps: Sequence[Warp]) -> tuple[float, float]:
    """The least and the most that the warps together shrink."""
    return math.prod(warp.span[0] for warp in warps), math.prod(warp.span[1] for warp in warps)
