"""One ascent from its first step to its last, with what stopped it and what makes it again; and the better of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from featureviz.ascent import Ascent
from featureviz.capture import stepper
from featureviz.devices import Lane
from featureviz.errors import NonFinite
from featureviz.evaluate import evaluate
from featureviz.model import TappedModel
from featureviz.objective import Objective


@final
@dataclass(frozen=True)
class Attempt:
    """What one ascent made, and what stopped it before its end, if anything did."""

    kind: str
    images: Tensor
    scores: Tensor
    snapshots: dict[int, Tensor]
    stopped: KeyboardInterrupt | NonFinite | None


def climb(
    ascent: Ascent, steps: int, wanted: set[int], label: str | None, capture: bool | Literal["auto"], lane: Lane
) -> Attempt:
    """Take ``steps``, with a bar if there is a label for it; in pace with the ``lane`` of other devices."""
    stopped: KeyboardInterrupt | NonFinite | None = None
    on_host = ascent.model.device.type == "cpu"  # elsewhere each look at a number waits for the device
    n = len(ascent.image)
    kept: dict[int, Tensor] = {0: ascent.images()} if 0 in wanted else {}
    with tqdm(total=steps, desc=label, disable=label is None, unit="step", mininterval=0.3) as bar:

        def show(ascent: Ascent) -> None:
            lane.tick()
            bar.update(ascent.steps_done - bar.n)
            if label is not None:
                seconds = bar.format_dict["elapsed"]
                score = ascent.scores[ascent.steps_done - 1].mean().item()
                rate = f"{n * ascent.steps_done / max(seconds, 1e-9) / max(1, steps):.2f}"
                bar.set_postfix({"score": f"{score:.3g}", "images/s": rate}, refresh=False)

        try:
            runner = stepper(ascent, capture, steps)
            for stop in [*sorted(s for s in wanted if 0 < s < steps), steps]:
                runner.run(stop - ascent.steps_done, every=1 if on_host else 16, on=show)
                if stop in wanted:
                    kept[stop] = ascent.images()
        except (KeyboardInterrupt, NonFinite) as error:
            stopped = error
            lane.stop()
    return Attempt(
        type(ascent.image).__name__, ascent.images(), ascent.scores[: ascent.steps_done].cpu(), kept, stopped
    )


def together(parts: list[Attempt]) -> Attempt:
    """The attempt of several devices as one; where one failed, no longer than that one."""
    first, *_ = parts
    steps = min(len(part.scores) for part in parts)
    stops = [part.stopped for part in parts if part.stopped is not None]
    return replace(
        first,
        images=torch.cat([part.images for part in parts]),
        scores=torch.cat([part.scores[:steps] for part in parts], 1),
        snapshots={
            at: torch.cat([part.snapshots[at] for part in parts])
            for at in first.snapshots
            if all(at in part.snapshots for part in parts)
        },
        stopped=next((stop for stop in stops if isinstance(stop, NonFinite)), stops[0] if stops else None),
    )


def better(
    first: Attempt,
    second: Attempt,
    model: TappedModel,
    goal: Objective,
    seed: int,
    numbers: Sequence[int] | None = None,
) -> Attempt:
    """For each image the attempt that scores higher; all of one where images depend on each other.

    Chosen on views of their own, so that the held-out views still see the winners for the first time.
    """
    if second.stopped is not None:
        return replace(first, stopped=second.stopped)  # an attempt cut short does not compete
    scores = [evaluate(model, goal, a.images, seed=seed + 1, numbers=numbers).scores.mean(0) for a in (first, second)]
    gain = scores[1] - scores[0]  # [N]
    wins = (gain.sum().expand_as(gain) if goal.across_batch else gain) > 0  # a NaN never wins

    def pick(a: Tensor, b: Tensor, axis: int) -> Tensor:
        return torch.where(wins.view([-1 if d == axis else 1 for d in range(a.ndim)]), b, a)

    return replace(
        first,
        images=pick(first.images, second.images, 0),
        scores=pick(first.scores, second.scores, 1),
        snapshots={step: pick(kept, second.snapshots[step], 0) for step, kept in first.snapshots.items()},
    )


def recipe(
    model: TappedModel,
    goal: Objective,
    made: Attempt,
    stages: Sequence[nn.Module],
    numbers: Sequence[int] | None,
    asked: dict[str, Any],
) -> dict[str, Any]:
    """All that makes the images again."""
    held = {"interventions": list(model.interventions)} if model.interventions else {}
    return {
        "spec": goal.spec, "model": model.name, **held, **asked,
        "numbers": list(range(len(made.images)) if numbers is None else numbers), "steps done": len(made.scores),
        "image": made.kind, "size": list(made.images.shape[-2:]), "input": model.size,
        "transforms": [repr(t) for t in stages],
        "versions": {"featureviz": version("featureviz"), "torch": torch.__version__},
    }  # fmt: skip
