"""The pipeline that turns N images into M = N * K views of the network's input size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform import functional
from featureviz.transform.base import Pixelwise, Transform, Warp
from featureviz.transform.kornia import Kornia


@final
class Pipeline(nn.Module):
    """Transforms in the given order: ``pipeline(images, rng, size)``, ``[N,C,H,W]`` to ``[N*K,C,h,w]``.

    The matrices of all warps are multiplied and the image is resampled once, directly to ``size``; pixelwise
    transforms are applied after that. Any other transform ends this: warps after it are a second resampling.
    ``kornia.augmentation`` modules are accepted.

    >>> from featureviz.transform import Jitter, Rotate
    >>> Pipeline([Jitter(8), Rotate(5)])(torch.rand(2, 3, 32, 32), Rng(0, 2, views=4), (24, 24)).shape
    torch.Size([8, 3, 24, 24])
    """

    def __init__(self, transforms: Iterable[Transform | nn.Module] = ()) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(_as_transform(t) for t in transforms)

    @property
    def capturable(self) -> bool:
        return all(t.capturable for t in self._transforms())

    def forward(self, images: Tensor, rng: Rng, size: tuple[int, int]) -> Tensor:
        full = (images.shape[-2], images.shape[-1])
        images = functional.shrink(images, size)
        if rng.views > 1:
            images = images.repeat_interleave(rng.views, 0)  # [M,C,H,W]
        for warps, others in self._stages():
            images = _resample(images, [warp.matrix(rng, full) for warp in warps], size)
            for transform in others:
                images = transform.transform(images, transform.draw(rng, size))
        return images

    def _stages(self) -> list[tuple[list[Warp], list[Transform]]]:
        """Stages of one resampling each: its warps, and the transforms after it. The first may have no warps."""
        stages: list[tuple[list[Warp], list[Transform]]] = [([], [])]
        for transform in self._transforms():
            warps, others = stages[-1]
            if not isinstance(transform, Warp):
                others.append(transform)
            elif all(isinstance(t, Pixelwise) for t in others):
                warps.append(transform)
            else:
                stages.append(([transform], []))
        return stages

    def _transforms(self) -> list[Transform]:
        return [t for t in self.transforms if isinstance(t, Transform)]


def _resample(images: Tensor, matrices: list[Tensor], size: tuple[int, int]) -> Tensor:
    if matrices:
        total = matrices[0]
        for matrix in matrices[1:]:
            total = total @ matrix  # a point of the output passes the last warp first
        return functional.warp(images, total, size)
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)


def _as_transform(transform: Any) -> Transform:
    if isinstance(transform, Transform):
        return transform
    if isinstance(transform, nn.Module) and any(c.__module__.startswith("kornia.") for c in type(transform).__mro__):
        return Kornia(transform)
    raise InvalidInput(
        f"a transform of type {type(transform).__name__} was given; expected a featureviz Transform or a"
        " kornia.augmentation module"
    )
