"""Lucid's transforms. All draw for each view of each image; Lucid draws once for a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import entries, finite, show
from featureviz.errors import InvalidInput
from featureviz.rng import Rng
from featureviz.transform import Jitter, NormalizeGradient, Transform, Warp
from featureviz.transform.sampling.functional import rotation, scaling


@final
class OneOf(Warp):
    """Scale by one of the numbers, or rotate by one of the angles in degrees, each as often as it is listed."""

    def __init__(self, numbers: Iterable[float], *, turns: bool) -> None:
        super().__init__()
        values = [finite("a number", number) for number in entries("numbers", numbers)]
        if not values or (not turns and min(values) <= 0):
            raise InvalidInput(f"{show(values)} was given; expected at least one number, and scales above 0")
        self.numbers, self.turns = nn.Buffer(torch.tensor(values, dtype=torch.float32, device="cpu")), turns
        self.span = (1.0, 1.0) if turns else (1 / max(values), 1 / min(values))

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        drawn = self.numbers[(rng.uniform() * len(self.numbers)).long()]
        return rotation(drawn, size) if self.turns else scaling(drawn, drawn)


def jitter(d: int, seed: int | None = None) -> Transform:
    """Shift by up to half of ``d`` pixels. The render's seed decides, not ``seed``; so for all transforms."""
    return Jitter(d)


def pad(w: int, mode: str = "REFLECT", constant_value: Any = 0.5) -> list[Transform]:
    """Nothing: views are mirrored beyond the edge of the image, as far as they need. No grey enters the network."""
    if mode not in ("REFLECT", "CONSTANT", "constant", "reflect", "SYMMETRIC", "symmetric"):
        raise InvalidInput(f"pad(mode={show(mode)}) was given; expected 'REFLECT', 'SYMMETRIC' or 'CONSTANT'")
    finite("w", w, 0)
    return []


def random_scale(scales: Sequence[float], seed: int | None = None) -> Transform:
    """Magnify by one of the scales."""
    return OneOf(scales, turns=False)


def random_rotate(angles: Sequence[float], units: str = "degrees", seed: int | None = None) -> Transform:
    """Rotate by one of the angles, in ``"degrees"`` or ``"radians"``."""
    words = {"degrees": 1.0, "deg": 1.0, "radians": 180 / math.pi, "rad": 180 / math.pi}
    if units.lower() not in words:
        raise InvalidInput(f"units={show(units)} was given; expected 'degrees' or 'radians'")
    return OneOf([words[units.lower()] * float(angle) for angle in angles], turns=True)


def normalize_gradient(grad_scales: Sequence[float] | None = None) -> Transform:
    """Give the gradient of each view the length 1; ``grad_scales`` would be undone by Adam, and must be None."""
    if grad_scales is not None:
        raise InvalidInput("normalize_gradient(grad_scales=) was given; expected None: weight the objectives instead")
    return NormalizeGradient()


def collapse_alpha_random(sd: float = 0.5) -> list[Transform]:
    """Nothing: images with alpha are laid over random backgrounds in any case."""
    return []


def crop_or_pad_to(height: int, width: int) -> list[Transform]:
    """Nothing: views always have the size that the network wants."""
    return []


def compose(transforms: Iterable[Any]) -> list[Transform]:
    """The transforms, one after the other."""
    return flatten(transforms)


def flatten(transforms: Iterable[Any]) -> list[Any]:
    """Lists in a list, as ``pad`` and ``compose`` give them, as one list."""
    flat: list[Any] = []
    for transform in transforms:
        flat += flatten(transform) if isinstance(transform, (list, tuple)) else [transform]
    return flat


standard_transforms = flatten([
    pad(12, mode="constant", constant_value=0.5), jitter(8), random_scale([1 + (i - 5) / 50.0 for i in range(11)]),
    random_rotate([*range(-10, 11), *5 * [0]]), jitter(4),
])  # fmt: skip
