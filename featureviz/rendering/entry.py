"""``render``: images for an objective, from a parameterization, a pipeline of transforms and an ascent."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from featureviz.ascent.ascent import Ascent
from featureviz.ascent.optimizers import MakeOptimizer
from featureviz.ascent.runtime import Runtime
from featureviz.checks import SEEDS, VIEWS, flag, instance, whole, wholes
from featureviz.checks import STEPS as MOST_STEPS
from featureviz.errors import NonFinite
from featureviz.image.base import Size
from featureviz.image.start import Start, describe_start, start_images
from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import Goal, as_objective
from featureviz.rendering.held_out import evaluate_made
from featureviz.rendering.presets import STEPS, clear_views, cooling_adam
from featureviz.rendering.rendering import Rendering
from featureviz.rendering.run import Run, join_runs, run_ascent
from featureviz.rendering.shards import Devices, copy_to_devices, run_side_by_side, split_images
from featureviz.rng import number_images
from featureviz.transform.pipeline import list_transforms


@own_surroundings
def render(
    model: TappedModel,
    objective: Goal,
    *,
    image: Start = None,
    size: Size = 128,
    transforms: Iterable[nn.Module] | None = None,
    views: int = 1,
    steps: int = STEPS,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    optimizer: MakeOptimizer | None = None,
    device: Devices = None,
    snapshots: Iterable[int] = (),
    runtime: Runtime | None = None,
    progress: bool = True,
) -> Rendering:
    """Images that excite ``objective``, by gradient ascent from noise.

    Args:
        model: from ``fv.load`` or ``fv.wrap``.
        objective: an objective, a spec string, or a list of either, one an image.
        image: what moves, a Fourier image by default: a picture to start from, which keeps its size (a path, a PIL
            image, an array, or a tensor ``[C,H,W]`` or ``[N,C,H,W]`` in [0,1]); a parameterization (copied); or what
            makes one, such as ``fv.PixelImage``, called as ``make(n, size, seed=, image_ids=)``.
        size: of the images in pixels, a side or (height, width); views are resampled to what the network wants.
        transforms: the robustness pipeline; None for that of ``fv.clear()``, ``[]`` for none.
        views: random views of an image in a step.
        steps: of ascent. More of them raise the score, and add ringing and clipped pixels.
        seed: image i depends on it and on its own number alone.
        image_ids: the number of each image, 0, 1, 2... if left out: image 7 alone is ``image_ids=[7]``.
        optimizer: ``fv.Adam(lr, betas)``, or any function from leaves to an optimizer of torch's kind; None for that
            of ``fv.clear()``.
        device: where to work; the model's own by default. The model itself is not moved. Several, or ``"cuda:all"``,
            share the images: the same images, sooner.
        snapshots: steps after which to keep the images as they are.
        runtime: precision, compilation, capture and redirected gradients (``fv.Runtime``).
        progress: a bar with the score and images a second.

    Ctrl-C returns the images as they are then. A score or gradient that is not finite raises ``NonFinite``, whose
    ``rendering`` holds the last finite images.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.render(model, fv.Channel("features.6", 3), steps=2, size=64, progress=False)
    >>> picture.images.shape, picture.scores.shape
    (torch.Size([1, 3, 64, 64]), torch.Size([2, 1]))
    """
    goal, models = as_objective(objective), copy_to_devices(tapped(model), device)
    here, optimizer = models[0], cooling_adam() if optimizer is None else optimizer
    pipeline = list_transforms(clear_views() if transforms is None else transforms)
    steps, views = whole("steps", steps, 0, MOST_STEPS), whole("views", views, 1, VIEWS)
    seed, wanted = whole("seed", seed, *SEEDS), set(wholes("snapshots", snapshots, 0, steps))
    runtime = Runtime() if runtime is None else instance("runtime", runtime, Runtime)
    progress = flag("progress", progress)
    image_ids = None if image_ids is None else wholes("image_ids", image_ids)
    start = start_images(image, goal.n, size, seed=seed, image_ids=image_ids, channels=here.channels)
    image_ids = number_images(len(start), image_ids)
    shards = split_images(models, goal, start, image_ids)
    ascents = [
        Ascent(
            shard.model, shard.objective, shard.image, transforms=pipeline,
            views=views, steps=steps, optimizer=optimizer, seed=seed, image_ids=shard.image_ids, runtime=runtime,
        )
        for shard in shards
    ]  # fmt: skip
    label = goal.spec if len(goal.spec) < 40 else f"{goal.spec[:37]}..."
    labels = [label if progress else None, *[None] * (len(shards) - 1)]
    works = [partial(run_ascent, a, steps, wanted, label) for a, label in zip(ascents, labels, strict=True)]
    made = join_runs(run_side_by_side(works, [shard.model for shard in shards]))
    held_out, stop = evaluate_made(here, goal, made.images, seed=seed, image_ids=image_ids)
    specs = tuple(goal.select([i]).spec for i in range(len(made.images)))
    if made.unmoved:
        still = ", ".join(specs[i] for i in made.unmoved[:4]) + (", ..." if len(made.unmoved) > 4 else "")
        warnings.warn(
            f"{len(made.unmoved)} of {len(specs)} images are still as they started, because no step had a gradient"
            f" ({still}): the unit may be dead, or the objective constant",
            RuntimeWarning,
            stacklevel=4,
        )
    rendering = Rendering(
        images=made.images,
        scores=made.scores,
        held_out=held_out,
        specs=specs,
        recipe=_make_recipe(here, goal, made, image_ids, pipeline, optimizer, runtime)
        | {"seed": seed, "views": views, "steps": steps, **describe_start(image, here.channels)},
        snapshots=made.snapshots,
        slope=made.slope,
        interrupted=isinstance(made.stopped, KeyboardInterrupt) or stop is not None,
    )
    if isinstance(made.stopped, NonFinite):
        made.stopped.rendering = rendering
        raise made.stopped
    return rendering


def _make_recipe(
    model: TappedModel, goal: Objective, made: Run, image_ids: Sequence[int] | None, pipeline: Sequence[nn.Module],
    optimizer: MakeOptimizer, runtime: Runtime,
) -> dict[str, Any]:  # fmt: skip
    """What the images were made of, without the options that are numbers; precision only if it changes pictures."""
    interventions = [i.text for i in interventions_on(model.key)]
    read = {key: repr(model.dictionaries[key][1]) for key in goal.layers if key in model.dictionaries}
    return {
        "spec": goal.spec, "model": model.name, **({"interventions": interventions} if interventions else {}),
        "image_ids": image_ids, "steps done": len(made.scores),
        "image": made.parameterization, "size": list(made.images.shape[-2:]), "input": model.size,
        "transforms": [repr(t) for t in pipeline],
        "versions": {"featureviz": version("featureviz"), "torch": torch.__version__},
        "optimizer": getattr(optimizer, "__name__", None) or str(optimizer), "redirect": runtime.redirect,
        **({"unmoved": list(made.unmoved)} if made.unmoved else {}),
        **({"alpha": True} if made.images.shape[1] > model.channels else {}),
        **({"dictionaries": read} if read else {}),
        **({"precision": runtime.precision} if runtime.precision != "float32" else {}),
    }  # fmt: skip
