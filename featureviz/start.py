"""What a render starts from: numbers within their ranges, and the first image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.image import FourierImage, Parameterization
from featureviz.image.base import Size
from featureviz.objective import Objective

MakeImage = Callable[..., Parameterization]


def label(goal: Objective) -> str:
    """What a progress bar calls it: its spec, shortened."""
    return goal.spec if len(goal.spec) < 40 else goal.spec[:37] + "..."


def checked(steps: int, views: int, attempts: int, redirect: int, snapshots: Iterable[int]) -> set[int]:
    """The snapshots that are wanted, all else being in its range."""
    floors = (("steps", steps, 0), ("attempts", attempts, 1), ("views", views, 1), ("redirect", redirect, 0))
    for name, value, least in floors:
        if value < least:
            raise InvalidInput(f"{name}={value} was given; expected at least {least}")
    wanted = set(snapshots)
    if wanted and not 0 <= min(wanted) <= max(wanted) <= steps:
        raise InvalidInput(f"snapshots={sorted(wanted)} was given for {steps} steps; expected steps from 0 to {steps}")
    return wanted


def first_image(
    image: Tensor | Parameterization | MakeImage | None,
    n: int,
    size: Size,
    seed: int,
    numbers: Sequence[int] | None,
    channels: int,
) -> Parameterization:
    """``n`` images of what was asked for: a picture, a parameterization, what makes one, or noise by default."""
    if image is None:
        count = n if numbers is None or n > 1 else len(numbers)
        return FourierImage(count, size, seed=seed, numbers=numbers, channels=channels)
    if isinstance(image, Tensor):
        return FourierImage(n if n > 1 else None, image=image, channels=channels)
    if isinstance(image, Parameterization):
        return copy.deepcopy(image)
    made = image(n, size, seed=seed)
    if not isinstance(made, Parameterization) or len(made) != n:
        count = f" of {len(made)}" if isinstance(made, Parameterization) else ""
        raise InvalidInput(f"image({n}, {size}, seed={seed}) gave {type(made).__name__}{count}; expected {n} images")
    return made
