"""The contracts of transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from featureviz.rng import Rng
from featureviz.transform.sampling import functional

Draw = tuple[Tensor, ...]


class Transform(nn.Module, ABC):
    """A random change of an image that a robust activation survives: abstract.

    ``draw`` is the only random part; it returns tensors with one row for each view. ``transform`` is deterministic and
    keeps shape, type and device. ``capturable`` says that neither of them synchronises with the host.
    """

    capturable = True

    @abstractmethod
    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        """Random numbers for views of ``size`` = (height, width), each ``[M, ...]``."""

    @abstractmethod
    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        """``[M,C,H,W]`` to ``[M,C,H,W]``."""

    def extra_repr(self) -> str:
        return ", ".join(f"{value:g}" for value in vars(self).values() if isinstance(value, float))


class Pixelwise(Transform, ABC):
    """A transform of each pixel by itself: abstract. A pipeline may apply it after a warp that follows it."""


class Warp(Transform, ABC):
    """A change of coordinates, given by its matrix: abstract. A pipeline multiplies all of its warps.

    The matrices are affine, unless the class says that it is ``projective``.

    ``span`` is the least and the most that its matrices shrink: lengths of the image in a length of the view. Unless a
    warp says more, it may magnify and does not shrink. It decides only how many averaged copies of a large image are
    made for the views to choose from.
    """

    span: tuple[float, float] = (0.0, 1.0)
    projective: bool = False

    @abstractmethod
    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        """``[M,3,3]``: maps (x, y, 1) in [-1,1] of the output to the input, for an image of (height, width) pixels."""

    @final
    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (self.matrix(rng, size),)

    @final
    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        return functional.warp(images, draw[0], (images.shape[-2], images.shape[-1]), affine=not self.projective)
