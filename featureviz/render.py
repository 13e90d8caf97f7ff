"""The easy entry, built from the parts that are there for everyone: a parameterization, a pipeline, an ascent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from featureviz.ascent import Ascent, MakeOptimizer, adam
from featureviz.errors import InvalidInput, NonFinite
from featureviz.evaluate import HeldOut, evaluate
from featureviz.image import FourierImage, Parameterization
from featureviz.image.base import Size
from featureviz.model import TappedModel
from featureviz.objective import Objective, PerImage
from featureviz.rendering import Rendering
from featureviz.spec import parse
from featureviz.transform import robust

MakeImage = Callable[[int, int], Parameterization]
Goal = Objective | str | Sequence[Objective | str]


@torch.inference_mode(False)  # whatever mode the caller is in
def render(
    model: TappedModel,
    objective: Goal,
    *,
    steps: int = 512,
    size: Size = 128,
    image: Parameterization | MakeImage | None = None,
    views: int = 1,
    transforms: Iterable[nn.Module] | None = None,
    optimizer: str | MakeOptimizer = "adam",
    lr: float = 0.05,
    seed: int = 0,
    device: torch.device | str | None = None,
    snapshots: Iterable[int] = (),
    attempts: int = 1,
    progress: bool = True,
) -> Rendering:
    """Images that excite ``objective``, by gradient ascent from noise.

    Args:
        model: from ``fv.load`` or ``fv.wrap``.
        objective: an objective, a spec string, or a list of either, one an image.
        steps: of ascent; 512 as Lucid, 128 are enough for a look.
        size: of the images in pixels, a side or (height, width); views are resampled to what the network wants.
        image: a parameterization to start from (copied), or ``make(n, seed)`` that builds one; Fourier by default.
        views: random views an image and step.
        transforms: the robustness pipeline; None for :func:`featureviz.transform.robust`, ``[]`` for none.
        optimizer: ``"adam"``, or a function from leaves to an optimizer, which then has its own learning rate.
        lr: Adam's learning rate.
        seed: image i depends on it and on i alone.
        device: where to work; the model's own by default. The model itself is not moved.
        snapshots: steps after which to keep the images as they are.
        attempts: renders from that many seeds and keeps, for each image, the best under held-out views.
        progress: a bar with the score and images a second.

    Ctrl-C returns what there is. A score or gradient that is not finite raises
    :class:`~featureviz.errors.NonFinite`, whose ``rendering`` holds the last finite images.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.render(model, fv.Channel("features.6", 3), steps=2, size=64, progress=False)
    >>> picture.images.shape, picture.scores.shape
    (torch.Size([1, 3, 64, 64]), torch.Size([2, 1]))
    """
    goal = as_objective(objective)
    for name, value, least in (("steps", steps, 0), ("attempts", attempts, 1), ("views", views, 1)):
        if value < least:
            raise InvalidInput(f"{name}={value} was given; expected at least {least}")
    stages = list(robust() if transforms is None else transforms)
    make = _optimizer(optimizer, lr)
    here = model.on(device)
    recipe = {
        "spec": goal.spec, "model": model.name, "seed": seed, "steps": steps, "views": views, "attempts": attempts,
        "size": size if isinstance(size, int) else list(size), "input": model.size,
        "transforms": [repr(t) for t in stages],
        "optimizer": f"adam lr {lr:g}" if optimizer == "adam" else getattr(optimizer, "__name__", repr(optimizer)),
        "versions": {"featureviz": version("featureviz"), "torch": torch.__version__},
    }  # fmt: skip
    best: Rendering | None = None
    for attempt in range(attempts):
        own = seed + attempt * 1_000_003  # far apart, so that neighbouring seeds do not share attempts
        start = _image(image, goal.n, size, own, model.channels)
        ascent = Ascent(
            here, goal, start, transforms=stages, views=views, optimizer=make, seed=own, capacity=max(1, steps)
        )
        label = goal.spec if len(goal.spec) < 40 else goal.spec[:37] + "..."
        label += f" ({attempt + 1} of {attempts})" if attempts > 1 else ""
        kept, stopped = _climb(ascent, steps, set(snapshots), label if progress else None)
        rendering = Rendering(
            images=ascent.images(),
            scores=ascent.scores[: ascent.steps_done].cpu(),
            held_out=evaluate(here, goal, ascent.images(), seed=seed),
            specs=tuple(goal.goal(i).spec for i in range(len(start))),
            recipe={**recipe, "steps done": ascent.steps_done},
            snapshots=kept,
            interrupted=isinstance(stopped, KeyboardInterrupt),
        )
        best = rendering if best is None else _better(best, rendering)
        if isinstance(stopped, NonFinite):
            stopped.rendering = best
            raise stopped
        if stopped is not None:
            return replace(best, interrupted=True)
    assert best is not None
    return best


def as_objective(goal: Goal) -> Objective:
    """An objective from itself, a spec string, or a list of either (one an image)."""
    if isinstance(goal, Objective):
        return goal
    if isinstance(goal, str):
        return parse(goal)
    if isinstance(goal, Sequence):
        return PerImage([as_objective(g) for g in goal])
    raise InvalidInput(f"an objective was expected, or a spec such as 'features.12:17'; {goal!r} was given")


def _climb(
    ascent: Ascent, steps: int, wanted: set[int], label: str | None
) -> tuple[dict[int, Tensor], KeyboardInterrupt | NonFinite | None]:
    """Run ``steps``; the snapshots taken, and what stopped it before the end, if anything did."""
    kept: dict[int, Tensor] = {0: ascent.images()} if 0 in wanted else {}
    on_host = ascent.model.device.type == "cpu"  # elsewhere each look at a number waits for the device
    n = len(ascent.image)
    with tqdm(total=steps, desc=label, disable=label is None, unit="step", mininterval=0.3) as bar:

        def show(ascent: Ascent) -> None:
            bar.update(ascent.steps_done - bar.n)
            if label is not None:
                seconds = bar.format_dict["elapsed"]
                score = ascent.scores[ascent.steps_done - 1].mean().item()
                rate = f"{n * ascent.steps_done / max(seconds, 1e-9) / max(1, steps):.2f}"
                bar.set_postfix({"score": f"{score:.3g}", "images/s": rate}, refresh=False)

        try:
            done = 0
            for stop in [*sorted(s for s in wanted if 0 < s < steps), steps]:
                ascent.run(stop - done, every=1 if on_host else 16, on=show)
                done = stop
                if stop in wanted:
                    kept[stop] = ascent.images()
        except (KeyboardInterrupt, NonFinite) as stopped:
            return kept, stopped
    return kept, None


def _better(first: Rendering, second: Rendering) -> Rendering:
    """For each image the attempt with the higher held-out score."""
    wins = second.held_out.scores.mean(0) > first.held_out.scores.mean(0)  # [N]; a NaN never wins
    if len(first.scores) != len(second.scores):
        return first  # an attempt cut short does not compete

    def pick(a: Tensor, b: Tensor, axis: int) -> Tensor:
        return torch.where(wins.view([-1 if d == axis else 1 for d in range(a.ndim)]), b, a)

    a, b = first.held_out, second.held_out
    chosen = [(b if win else a) for win in wins.tolist()]
    held_out = HeldOut(
        pick(a.scores, b.scores, 1),
        tuple(source.gates[i] for i, source in enumerate(chosen)),
        tuple(source.logits[i] for i, source in enumerate(chosen)),
    )
    snapshots = {step: pick(first.snapshots[step], second.snapshots[step], 0) for step in first.snapshots}
    return replace(
        first,
        images=pick(first.images, second.images, 0),
        scores=pick(first.scores, second.scores, 1),
        held_out=held_out,
        snapshots=snapshots,
    )


def _image(image: Any, n: int, size: Size, seed: int, channels: int) -> Parameterization:
    if image is None:
        return FourierImage(n, size, seed=seed, channels=channels)
    if isinstance(image, Parameterization):
        return copy.deepcopy(image)
    made = image(n, seed)
    if not isinstance(made, Parameterization) or len(made) != n:
        raise InvalidInput(f"image(n={n}, seed={seed}) gave {type(made).__name__}; expected a Parameterization of {n}")
    return made


def _optimizer(optimizer: str | MakeOptimizer, lr: float) -> MakeOptimizer:
    if callable(optimizer):
        return optimizer
    if optimizer != "adam":
        raise InvalidInput(
            f"optimizer={optimizer!r} was given; expected 'adam', or a function such as"
            " lambda leaves: torch.optim.NAdam(leaves, lr=0.1)"
        )
    if not lr > 0:
        raise InvalidInput(f"lr={lr} was given; expected a positive number")
    return adam(lr)
