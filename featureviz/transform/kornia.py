"""Any ``kornia.augmentation`` module as a transform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import show
from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform.base import Draw, Transform

_LENT = Lock()  # torch's generators belong to the process, so one thread at a time seeds them


@final
class Kornia(Transform):
    """A kornia augmentation, applied to one view at a time.

    Kornia draws from torch's global generators, and some of its draws are shared by a batch. So each view has its own
    seed and is transformed alone, and the generators are restored afterwards. This is slower and not capturable.
    """

    capturable = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def draw(self, rng: Rng, size: tuple[int, int]) -> Draw:
        return (rng.integers(),)

    def transform(self, images: Tensor, draw: Draw) -> Tensor:
        rows = []
        with _lent_generators(images.device) as generators:
            for row, seed in zip(images.split(1), draw[0].tolist(), strict=True):
                for generator in generators:
                    generator.manual_seed(seed)
                out = self.module(row)
                if not isinstance(out, Tensor) or out.shape != row.shape:
                    shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
                    raise InvalidInput(
                        f"{type(self.module).__name__} turned {list(row.shape)} into {shape}; a transform must keep the"
                        " size: add a resize to it"
                    )
                rows.append(out)
        return torch.cat(rows)


def as_transform(transform: Any) -> Transform:
    """A transform of this package, or a kornia augmentation made one; an error that says what was expected."""
    if isinstance(transform, Transform):
        return transform
    if isinstance(transform, nn.Module) and any(c.__module__.startswith("kornia.") for c in type(transform).__mro__):
        return Kornia(transform)
    made = f"; make one: {transform.__name__}(...)" if isinstance(transform, type) else ""
    raise InvalidInput(
        f"{show(transform)} was given for a transform; expected a featureviz Transform or a kornia.augmentation module"
        f"{made}"
    )


@contextmanager
def _lent_generators(device: torch.device) -> Iterator[list[torch.Generator]]:
    """The global generators of the CPU and of ``device``, to be seeded; afterwards they are as they were."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    with _LENT:
        states = [generator.get_state() for generator in generators]
        try:
            yield generators
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
