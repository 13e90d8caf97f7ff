"""Lucid's ``render_vis``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import Tensor

from featureviz.ascent.optimizers import Adam, MakeOptimizer
from featureviz.ascent.runtime import Runtime
from featureviz.checks import STEPS, flag, show, wholes
from featureviz.compat.lucid.modelzoo.vision_models import as_tapped
from featureviz.compat.lucid.optvis import objectives, param, transform
from featureviz.errors import InvalidInput
from featureviz.image import Parameterization
from featureviz.rendering.entry import render

REDIRECTED = 16  # steps in which gradients find a way through dead units: Lucid's


def render_vis(
    model: Any,
    objective_f: Any,
    param_f: Callable[[], Parameterization] | None = None,
    optimizer: MakeOptimizer | None = None,
    transforms: Iterable[Any] | None = None,
    thresholds: Iterable[int] = (512,),
    print_objectives: Any = None,
    verbose: bool = True,
    relu_gradient_override: bool = True,
    use_fixed_seed: bool = False,
) -> list[np.ndarray[Any, Any]]:
    """Images for an objective after each number of steps in ``thresholds``: a list of ``[N,H,W,C]`` in [0,1].

    Args:
        model: ``models.InceptionV1()``, or any network of featureviz.
        objective_f: an objective, a text ``"layer:unit"``, or a function of T.
        param_f: makes the images, such as ``lambda: param.image(128)``, which is the default.
        optimizer: as ``fv.render`` takes it, such as ``fv.Adam(0.05)``, which is the default.
        transforms: a list; None for ``transform.standard_transforms``, ``[]`` for none.
        thresholds: numbers of steps, in rising order.
        print_objectives: must be None: ``fv.render(...).scores`` has the score of each image at each step.
        verbose: show a bar.
        relu_gradient_override: let gradients through dead units in the first 16 steps.
        use_fixed_seed: the same images at each call; otherwise each call has a new seed.

    Raises:
        InvalidInput: an argument is of another kind, or thresholds do not rise.
        UnknownName: there is no such layer; the message lists the nearest ones.
    """
    steps = wholes("thresholds", thresholds, 0, STEPS)
    if not steps or steps != sorted(set(steps)):
        rising = sorted(set(steps)) or [512]
        raise InvalidInput(f"thresholds={show(steps)} was given; expected steps in rising order, such as {rising}")
    if print_objectives is not None:
        raise InvalidInput("print_objectives was given; expected None: fv.render(...).scores has all scores")
    tapped, seed = as_tapped(model), 0 if flag("use_fixed_seed", use_fixed_seed) else secrets.randbits(32)
    with param.seeded(seed):
        image = param.image(128) if param_f is None else param_f()
    if not isinstance(image, Parameterization):
        raise InvalidInput(f"param_f gave {show(image)}; expected images: param.image(128), param.to_valid_rgb(...)")
    goal = objectives.bind(objectives.as_objective(objective_f), tapped, image)
    made = render(
        tapped, goal, image=image,
        transforms=transform.flatten(transform.standard_transforms if transforms is None else transforms),
        optimizer=Adam(0.05) if optimizer is None else optimizer, steps=steps[-1], snapshots=steps, seed=seed,
        runtime=Runtime(redirect=REDIRECTED if relu_gradient_override else 0), progress=verbose,
    )  # fmt: skip
    return [to_array(made.snapshots.get(step, made.images)) for step in steps]


def to_array(images: Tensor) -> np.ndarray[Any, Any]:
    """``[N,C,H,W]`` as Lucid has it, ``[N,H,W,C]``."""
    return images.movedim(1, -1).contiguous().numpy()
