"""Any ``kornia.augmentation`` module as a transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Transform


class Kornia(Transform):
    """A kornia augmentation, applied view by view.

    Kornia draws from torch's global generator and some of its draws are shared by a batch. So each view is drawn
    alone, from a seed of its own, with the global generator restored afterwards: slower, and never capturable.
    """

    capturable = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.integers(),)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            rows = [self._one(row, seed) for row, seed in zip(images.split(1), draw[0].tolist(), strict=True)]
        return torch.cat(rows)

    def _one(self, row: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        out = self.module(row)
        if not isinstance(out, Tensor) or out.shape != row.shape:
            shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InvalidInput(
                f"{type(self.module).__name__} turned {list(row.shape)} into {shape}; a transform must keep the size:"
                " resize back inside it"
            )
        return out
