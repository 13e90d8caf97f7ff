"""The easy entry for more images than a batch holds, each for as many steps as it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from featureviz.ascent import adam
from featureviz.attempt import Attempt, recipe
from featureviz.errors import InvalidInput, NonFinite
from featureviz.evaluate import Goal, as_objective, evaluate
from featureviz.image import Parameterization
from featureviz.image.base import Size
from featureviz.model import TappedModel, tapped
from featureviz.plateau import Plateau
from featureviz.rendering import Rendering
from featureviz.rolling import Climb, Rolling
from featureviz.start import MakeImage, checked, first_image, label
from featureviz.transform import robust
from featureviz.trunk import Precision


@torch.inference_mode(False)  # whatever mode the caller is in
def roll(
    model: TappedModel,
    goals: Goal,
    *,
    batch: int = 16,
    steps: int = 512,
    plateau: Plateau | None = None,
    size: Size = 128,
    image: MakeImage | None = None,
    views: int = 1,
    transforms: Iterable[nn.Module] | None = None,
    lr: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    redirect: int = 16,
    precision: Precision = "float32",
    progress: bool = True,
    on: Callable[[Climb], None] | None = None,
) -> Rendering:
    """An image for each goal, ``batch`` of them at a time; with a ``plateau``, each for as many steps as it needs.

    An image is what :func:`featureviz.render` makes of its goal and number in as many steps, whatever shared its batch.
    Newcomers climb their redirected steps among themselves. Goals that read the same layers go together best, since
    the network runs as far as any of a batch needs.

    Args:
        model: from ``fv.load`` or ``fv.wrap``.
        goals: an objective for several images, or a list of objectives or spec strings.
        batch: images at a time.
        steps: the most an image gets.
        plateau: when it needs no more (:class:`~featureviz.plateau.Plateau`); None gives all of them ``steps``.
        image: builds parameterizations, called with (n, size, seed=, numbers=); a Fourier image by default.
        betas: how fast Adam forgets (:class:`~featureviz.optim.RowAdam`).
        on: is handed each image as it is finished.
        size, views, transforms, lr, seed, numbers, device, redirect, precision, progress: as for ``render``.

    In the :class:`~featureviz.rendering.Rendering`, images are in the order of the goals, ``scores`` is NaN after an
    image's last step, and ``recipe["steps done"]`` has a number for each.

    Ctrl-C returns the images that had entered, the first so many. One whose score or gradient is not finite ends with
    its last finite picture, the others go on, and :class:`~featureviz.errors.NonFinite` is raised at the end, with
    all of them in its ``rendering``. Raises :class:`~featureviz.errors.InvalidInput` for a goal that looks at the
    other images of its batch.

    >>> import featureviz as fv
    >>> made = roll(fv.load("embedded"), fv.Channel("features.3", [1, 2, 3]), batch=2, steps=2, size=64, progress=False)
    >>> made.images.shape, made.recipe["steps done"]
    (torch.Size([3, 3, 64, 64]), [2, 2, 2])
    """
    goal, here = as_objective(goals), tapped(model).on(device)
    stages = list(robust() if transforms is None else transforms)
    checked(steps, views, 1, redirect, ())
    if not lr > 0:
        raise InvalidInput(f"lr={lr} was given; expected a positive number")
    each = range(goal.n) if numbers is None else numbers
    rolling = Rolling(
        here, goal, partial(_newcomers, image, size, seed, here), each, batch=batch, steps=steps, plateau=plateau,
        transforms=stages, views=views, lr=lr, betas=betas, seed=seed,
        redirect=redirect, precision=precision,
    )  # fmt: skip
    for at in range(0, goal.n, batch):  # a mistake in the last goal is known before the first image is made
        some = range(at, min(at + batch, goal.n))
        evaluate(here, goal.part(some), here.probe(len(some)), draws=1)
    interrupted = False
    with tqdm(total=len(each), desc=label(goal), disable=not progress, unit="image", mininterval=0.3) as bar:

        def finished(climb: Climb) -> None:
            bar.update()
            done = [len(c.scores) for c in rolling.climbs if c.image is not None]
            bar.set_postfix({"steps an image": round(sum(done) / len(done))}, refresh=False)
            if on is not None:
                on(climb)

        try:
            rolling.run(finished)
        except KeyboardInterrupt:
            if not rolling.climbs:
                raise
            interrupted = True
    return _rendering(rolling, interrupted)


def _newcomers(
    image: MakeImage | None, size: Size, seed: int, model: TappedModel, numbers: Sequence[int]
) -> Parameterization:
    make = None if image is None else partial(image, numbers=numbers)
    return first_image(make, len(numbers), size, seed, numbers, model.channels)


def _rendering(rolling: Rolling, interrupted: bool) -> Rendering:
    """What ``render`` gives, of all that have entered; or what went wrong with one of them."""
    climbs, goal, model = rolling.climbs, rolling.goal, rolling.model
    images = rolling.pictures()
    scores = nn.utils.rnn.pad_sequence([climb.scores for climb in climbs], padding_value=math.nan)
    asked: dict[str, Any] = {
        "seed": rolling.seed, "attempts": 1, "views": rolling.views, "steps": rolling.steps,
        "optimizer": str(adam(rolling.lr, rolling.betas)), "redirect": rolling.redirect,
        **({"plateau": asdict(rolling.plateau)} if rolling.plateau else {}),
        **({"precision": rolling.precision} if rolling.precision != "float32" else {}),
    }  # fmt: skip
    made = Attempt(type(rolling.template).__name__, images, scores, {}, None)
    numbers = [climb.number for climb in climbs]
    made_by = recipe(model, goal, made, rolling.transforms, numbers, asked)
    rendering = Rendering(
        images=images,
        scores=scores,
        held_out=evaluate(model, goal, images, seed=rolling.seed, numbers=numbers),
        specs=tuple(goal.goal(climb.goal).spec for climb in climbs),
        recipe={**made_by, "steps done": [len(climb.scores) for climb in climbs]},
        interrupted=interrupted,
    )
    failed = [climb for climb in climbs if climb.error is not None]
    if failed:
        raise _told(failed, rendering)
    return rendering


def _told(failed: list[Climb], rendering: Rendering) -> NonFinite:
    """The first one's error, at its own step."""
    first = failed[0]
    error, step = first.error, len(first.scores)
    assert error is not None
    text = str(error).removeprefix(f"step {error.step}: ")
    others = f" ({len(failed) - 1} more images ended like this)" if failed[1:] else ""
    told = NonFinite(f"{rendering.specs[first.goal]}, step {step}: {text}{others}", step, error.term)
    told.rendering = rendering
    return told
