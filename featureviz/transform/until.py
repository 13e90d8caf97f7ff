"""A transform that takes part in the first steps of an ascent only."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from featureviz.checks import finite
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Transform
from featureviz.transform.kornia import as_transform


@final
class Until(Transform):
    """``inner`` while less than ``share`` of an ascent's steps are done; from then on it is as if it were not there.

    So the views of the last steps are those of a pipeline without it, to the bit, and cost as much. A pipeline that
    runs outside of an ascent is at its first step, where the transform takes part.

    >>> from featureviz.transform import Noise
    >>> Until(Noise(0.1), 0.75)
    Until(Noise(0.1), 0.75)
    """

    def __init__(self, inner: nn.Module, share: float) -> None:
        super().__init__()
        self.inner, self.share = as_transform(inner), finite("share", share, 0, 1)
        self.capturable = self.inner.capturable

    def __repr__(self) -> str:
        return f"Until({self.inner!r}, {self.share:g})"

    def acts(self, done: float) -> bool:
        """Whether it takes part after this share of the steps, 0 to 1."""
        return done < self.share

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return self.inner.draw(rng, size)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        return self.inner.transform(images, draw)
