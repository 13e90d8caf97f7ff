"""One ascent from its first step to its last, with its bar, and what stopped it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import final

import torch
from torch import Tensor

from featureviz.ascent.ascent import Ascent
from featureviz.ascent.cuda_graph import stepper
from featureviz.errors import NonFinite
from featureviz.network.surroundings import postponed_interrupts, progress_bar
from featureviz.rendering.shards import Worker


@final
@dataclass(frozen=True)
class Run:
    """What one ascent made, and what stopped it before its end, if anything did."""

    parameterization: str
    images: Tensor
    scores: Tensor
    snapshots: dict[int, Tensor]
    stopped: KeyboardInterrupt | NonFinite | None
    unmoved: tuple[int, ...] = ()  # the places of images that no step has moved
    slope: Tensor | None = None  # how much each pixel mattered [N,H,W], where the parameterization keeps it


def run_ascent(ascent: Ascent, steps: int, snapshots: Iterable[int], label: str | None, worker: Worker) -> Run:
    """Take ``steps`` steps, and keep the images after those in ``snapshots``; with a bar if there is a label for it.

    The ``worker`` keeps several devices together: all of them end at the same step.
    """
    stopped: KeyboardInterrupt | NonFinite | None = None
    on_host = ascent.model.device.type == "cpu"  # elsewhere each look at a number waits for the device
    n, wanted = len(ascent.image), sorted(set(snapshots))
    kept: dict[int, Tensor] = {0: ascent.images()} if 0 in wanted else {}
    with (
        postponed_interrupts() as interrupted,
        progress_bar(label is not None, total=steps, desc=label, unit="step", mininterval=0.3) as bar,
    ):

        def show(ascent: Ascent) -> None:
            worker.tick()
            interrupted()
            if bar is not None:
                bar.update(ascent.steps_done - bar.n)
                seconds = bar.format_dict["elapsed"]
                score = ascent.scores[ascent.steps_done - 1].mean().item()
                rate = f"{n * ascent.steps_done / max(seconds, 1e-9) / max(1, steps):.2f}"
                bar.set_postfix({"score": f"{score:.3g}", "images/s": rate}, refresh=False)

        try:
            runner = stepper(ascent, ascent.runtime.capture, steps)
            for stop in [*(s for s in wanted if 0 < s < steps), steps]:
                runner.run(stop - ascent.steps_done, every=1 if on_host else 16, on=show)
                if stop in wanted:
                    kept[stop] = ascent.images()
        except (KeyboardInterrupt, NonFinite) as error:
            stopped = error
            worker.stop()
    scores = ascent.scores[: ascent.steps_done].cpu()
    unmoved = tuple(ascent.unmoved()) if len(scores) else ()
    slope = None if ascent.slope is None else ascent.slope.cpu() / max(1, ascent.steps_done)
    return Run(type(ascent.image).__name__, ascent.images(), scores, kept, stopped, unmoved, slope)


def join_runs(runs: list[Run]) -> Run:
    """The runs of several devices as one; where one failed, no longer than that one."""
    first, *_ = runs
    steps = min(len(run.scores) for run in runs)
    first_places = accumulate((len(run.images) for run in runs), initial=0)
    stops = [run.stopped for run in runs if run.stopped is not None]
    return replace(
        first,
        images=torch.cat([run.images for run in runs]),
        scores=torch.cat([run.scores[:steps] for run in runs], 1),
        snapshots={
            at: torch.cat([run.snapshots[at] for run in runs])
            for at in first.snapshots
            if all(at in run.snapshots for run in runs)
        },
        unmoved=tuple(at + i for at, run in zip(first_places, runs, strict=False) for i in run.unmoved),
        slope=torch.cat(slopes) if (slopes := [run.slope for run in runs if run.slope is not None]) else None,
        stopped=next((stop for stop in stops if isinstance(stop, NonFinite)), stops[0] if stops else None),
    )
