"""The easy entry, built from the parts that are there for everyone: a parameterization, a pipeline, an ascent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from featureviz.ascent import Ascent, MakeOptimizer, adam
from featureviz.attempt import Attempt, better, climb, recipe, together
from featureviz.devices import Devices, replicas, side_by_side, spread
from featureviz.errors import InvalidInput, NonFinite
from featureviz.evaluate import Goal, as_objective, evaluate
from featureviz.image import Parameterization
from featureviz.image.base import Size
from featureviz.model import TappedModel, tapped
from featureviz.rendering import Rendering
from featureviz.start import MakeImage, checked, first_image, label
from featureviz.transform import robust
from featureviz.trunk import Precision

WORTH_COMPILING = 20_000  # views on their way through the network: about where seconds saved exceed those spent


@torch.inference_mode(False)  # whatever mode the caller is in
def render(
    model: TappedModel,
    objective: Goal,
    *,
    steps: int = 512,
    size: Size = 128,
    image: Tensor | Parameterization | MakeImage | None = None,
    views: int = 1,
    transforms: Iterable[nn.Module] | None = None,
    optimizer: str | MakeOptimizer = "adam",
    lr: float | Callable[[float], float] = 0.05,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    device: Devices = None,
    snapshots: Iterable[int] = (),
    attempts: int = 1,
    redirect: int = 16,
    precision: Precision = "float32",
    compile: bool | Literal["auto"] = "auto",
    capture: bool | Literal["auto"] = False,
    progress: bool = True,
) -> Rendering:
    """Images that excite ``objective``, by gradient ascent from noise.

    Args:
        model: from ``fv.load`` or ``fv.wrap``.
        objective: an objective, a spec string, or a list of either, one an image.
        steps: of ascent; 512 as Lucid, 128 are enough for a look.
        size: of the images in pixels, a side or (height, width); views are resampled to what the network wants.
        image: what moves, a Fourier image by default: a picture to start from, ``[C,H,W]`` or ``[N,C,H,W]`` in [0,1];
            a parameterization (copied); or what builds one, such as ``fv.PixelImage``, called with (n, size, seed=).
        views: random views an image and step.
        transforms: the robustness pipeline; None for :func:`featureviz.transform.robust`, ``[]`` for none.
        optimizer: ``"adam"``, or a function from leaves to an optimizer, which then has its own learning rate.
        lr: Adam's learning rate, or a schedule of any optimizer's: from the share of the steps done, 0 to 1, to it.
        seed: image i depends on it and on its number alone.
        numbers: the number of each image, 0, 1, 2... if left out: image 7 alone is ``numbers=[7]``.
        device: where to work; the model's own by default. The model itself is not moved. Several, or ``"cuda:all"``,
            share the images: the same images, sooner.
        snapshots: steps after which to keep the images as they are.
        attempts: renders from that many seeds and keeps, for each image, the best under held-out views.
        redirect: how many of the first steps send gradients through activations that are dead for a whole image, as
            Lucid does; where none is dead, nothing changes.
        precision: of the network, ``"float32"`` or ``"bfloat16"``.
        compile: whether to compile the network, which takes tens of seconds, once for each shape. ``"auto"`` does
            so where that many steps and images are asked for that it pays.
        capture: whether to replay the step from a CUDA graph (:mod:`featureviz.capture`); ``"auto"`` does so where
            there are steps enough. What cannot be captured is named in a warning, and runs eagerly.
        progress: a bar with the score and images a second.

    Ctrl-C returns what there is. A score or gradient that is not finite raises
    :class:`~featureviz.errors.NonFinite`, whose ``rendering`` holds the last finite images.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.render(model, fv.Channel("features.6", 3), steps=2, size=64, progress=False)
    >>> picture.images.shape, picture.scores.shape
    (torch.Size([1, 3, 64, 64]), torch.Size([2, 1]))
    """
    goal, models = as_objective(objective), replicas(tapped(model), device)
    here = models[0]
    stages = list(robust() if transforms is None else transforms)
    make = _optimizer(optimizer, lr)
    wanted = checked(steps, views, attempts, redirect, snapshots)
    rate = None if not callable(lr) else lambda step: lr(step / max(1, steps))
    compiled = steps * views * goal.n >= WORTH_COMPILING if compile == "auto" else compile
    best: Attempt | None = None
    for attempt in range(attempts):
        own = seed + attempt * 1_000_003  # far apart, so that neighbouring seeds do not share attempts
        start = first_image(image, goal.n, size, own, numbers, here.channels)
        shares = spread(models, goal, start, numbers)
        ascents = [
            Ascent(
                share.model, share.objective, share.image, transforms=copy.deepcopy(stages) if i else stages,
                views=views, optimizer=make, seed=own, numbers=share.numbers, capacity=max(1, steps), redirect=redirect,
                rate=rate, precision=precision, compile=compiled,
            )
            for i, share in enumerate(shares)
        ]  # fmt: skip
        title = label(goal) + (f" ({attempt + 1} of {attempts})" if attempts > 1 else "")
        labels = [title if progress else None, *[None] * (len(shares) - 1)]
        climbs = [partial(climb, a, steps, wanted, told, capture) for a, told in zip(ascents, labels, strict=True)]
        tried = together(side_by_side(climbs, [share.model for share in shares]))
        best = tried if best is None else better(best, tried, here, goal, seed, numbers)
        if best.stopped is not None:
            break
    assert best is not None  # attempts >= 1
    n = len(best.images)
    how = getattr(make, "__name__", str(make)) + (f", lr by {getattr(lr, '__name__', repr(lr))}" if rate else "")
    asked = {
        "seed": seed, "attempts": attempts, "views": views, "steps": steps, "optimizer": how, "redirect": redirect,
        **({"precision": precision} if precision != "float32" else {}),
    }  # fmt: skip
    rendering = Rendering(
        images=best.images,
        scores=best.scores,
        held_out=evaluate(here, goal, best.images, seed=seed, numbers=numbers),
        specs=tuple(goal.goal(i).spec for i in range(n)),
        recipe=recipe(here, goal, best, stages, numbers, asked),
        snapshots=best.snapshots,
        interrupted=isinstance(best.stopped, KeyboardInterrupt),
    )
    if isinstance(best.stopped, NonFinite):
        best.stopped.rendering = rendering
        raise best.stopped
    return rendering


def _optimizer(optimizer: str | MakeOptimizer, lr: float | Callable[[float], float]) -> MakeOptimizer:
    if callable(optimizer):
        return optimizer
    if optimizer != "adam":
        raise InvalidInput(
            f"optimizer={optimizer!r} was given; expected 'adam', or a function such as"
            " lambda leaves: torch.optim.NAdam(leaves, lr=0.1)"
        )
    if callable(lr):
        return adam(lr(0.0))
    if not lr > 0:
        raise InvalidInput(f"lr={lr} was given; expected a positive number")
    return adam(lr)
