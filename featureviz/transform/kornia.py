"""Any ``kornia.augmentation`` module as a transform."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Transform


@final
class Kornia(Transform):
    """A kornia augmentation, applied to one view at a time.

    Kornia draws from torch's global generator, and some of its draws are shared by a batch. So each view has its own
    seed and is transformed alone, and the global generator is restored afterwards. This is slower and not capturable.
    """

    capturable = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.integers(),)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        rows = []
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
            for row, seed in zip(images.split(1), draw[0].tolist(), strict=True):
                torch.manual_seed(seed)
                out = self.module(row)
                if not isinstance(out, Tensor) or out.shape != row.shape:
                    shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
                    raise InvalidInput(
                        f"{type(self.module).__name__} turned {list(row.shape)} into {shape}; a transform must keep the"
                        " size: add a resize to it"
                    )
                rows.append(out)
        return torch.cat(rows)
