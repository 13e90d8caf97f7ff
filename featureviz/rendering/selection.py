"""The best of several renders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from featureviz.checks import MOST, whole
from featureviz.errors import NonFinite
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import Goal, as_objective
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate, evaluate_made
from featureviz.rendering.rendering import Rendering
from featureviz.rendering.shards import copy_to_devices

FAR = 1_000_003  # between the seeds of two renders, so that neighbouring seeds do not share one


def best_of(n: int, model: TappedModel, objective: Goal, *, seed: int = 0, **options: Any) -> Rendering:
    """Render from ``n`` seeds, and keep for each image the one that scores best on held-out views.

    The winners are chosen on views of their own, so that the held-out views in the result still see them for the first
    time. Where images depend on each other all of one render are kept. ``recipe["seeds"]`` holds the seed of each
    image, ``recipe["best of"]`` the number of renders that ended.

    ``n`` is how many renders there are, from 1; ``seed`` is that of the first. All else is as for ``fv.render``.

    Ctrl-C returns the best of the renders that had ended; a render that was cut short does not compete, unless it is
    the first one. If a score of a later one is not finite, ``NonFinite`` is raised with the best of those before.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.best_of(2, model, "features.6:3", steps=2, size=64, progress=False)
    >>> picture.recipe["best of"], len(picture.recipe["seeds"])
    (2, 1)
    """
    n, seed, goal, best = whole("n", n, 1, MOST), whole("seed", seed, -(2**62), 2**62), as_objective(objective), None
    here = copy_to_devices(tapped(model), options.get("device"))[0]  # copied once, and the images are judged there too
    for own in (seed + i * FAR for i in range(n)):
        try:
            made = render(here, goal, seed=own, **options)
            made = replace(made, recipe=made.recipe | {"best of": 1, "seed": seed, "seeds": [own] * len(made)})
            if best is None or made.interrupted:
                best = made if best is None else replace(best, interrupted=True)
            else:
                best = _better(best, made, here, goal, seed)
        except NonFinite as error:
            error.rendering = error.rendering if best is None else _judged(best, here, goal, seed)
            raise
        except KeyboardInterrupt:
            if best is None:
                raise
            best = replace(best, interrupted=True)
        if best.interrupted:
            break
    assert best is not None
    return _judged(best, here, goal, seed)


def _judged(best: Rendering, model: TappedModel, goal: Objective, seed: int) -> Rendering:
    """With held-out scores of the images that were chosen."""
    ids = best.recipe["image_ids"]
    held_out, stop = evaluate_made(model, goal, best.images, seed=seed, image_ids=ids)
    return replace(best, held_out=held_out, interrupted=best.interrupted or stop is not None)


def _better(first: Rendering, second: Rendering, model: TappedModel, goal: Objective, seed: int) -> Rendering:
    """For each image the one that scores higher; all of one render where images depend on each other."""
    ids = first.recipe["image_ids"]
    scores = [evaluate(model, goal, r.images, seed=seed + 1, image_ids=ids).scores.mean(0) for r in (first, second)]
    gain = scores[1].nan_to_num(-torch.inf) - scores[0].nan_to_num(-torch.inf)  # [N]
    wins = (gain.sum().expand_as(gain) if goal.across_batch else gain) > 0  # a NaN never wins

    def pick(a: Tensor, b: Tensor, axis: int) -> Tensor:
        return torch.where(wins.view([-1 if d == axis else 1 for d in range(a.ndim)]), b, a)

    seeds = [b if won else a for a, b, won in zip(first.recipe["seeds"], second.recipe["seeds"], wins, strict=True)]
    return replace(
        first,
        images=pick(first.images, second.images, 0),
        scores=pick(first.scores, second.scores, 1),
        snapshots={step: pick(kept, second.snapshots[step], 0) for step, kept in first.snapshots.items()},
        recipe=first.recipe | {"best of": first.recipe["best of"] + 1, "seeds": seeds},
    )
