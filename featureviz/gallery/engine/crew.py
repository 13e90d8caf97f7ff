"""Batches to the workers of a cluster: each takes the next one when it is free.

What a lost worker was rendering is rendered again by another one.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, final

from featureviz.errors import FeaturevizError
from featureviz.gallery.engine.worker import Outcome
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made

Batch = tuple[Tile, ...]

TRIES = 3  # of a batch whose worker is lost
PATIENCE = 120.0  # seconds without a worker, after which a warning says what is waited for


def order_batches(batches: Sequence[Sequence[Tile]]) -> list[Batch]:
    """The order in which batches are handed out: the last layer first, and of each layer the full batches first.

    A step to a later layer takes longer. So the batches that start last are short, and all workers end at about the
    same time (list scheduling, longest first: Graham 1969).
    """
    place: dict[tuple[str, str], int] = {}
    for tiles in batches:
        place.setdefault(tiles[0].group, len(place))
    return sorted(map(tuple, batches), key=lambda tiles: (-place[tiles[0].group], -len(tiles)))


@final
class Crew:
    """The workers of one run, ``size`` at most.

    ``hire`` makes one; it gets ``job`` before its first batch. All are dismissed when ``render`` ends, however it ends.
    """

    def __init__(self, hire: Callable[[], Any], job: Any, size: int) -> None:
        self._hire, self._job, self._size = hire, job, size
        self._waiting = deque[Batch]()
        self._busy: dict[Any, tuple[Any, Batch | None]] = {}  # by task: its worker, and its batch unless it prepares
        self._losses = Counter[Batch | None]()
        self._begun = False

    def render(self, batches: Sequence[Sequence[Tile]]) -> Generator[list[Made]]:
        """The tiles of each batch, in the order in which they are finished."""
        import ray

        self._waiting.extend(order_batches(batches))
        left = len(batches)
        try:
            for _ in range(min(self._size, left)):
                self._engage()
            while left:
                outcomes = [self._take(task) for task in self._wait()]
                # The workers have their next batches now; what is finished is stored before an error ends the run.
                for outcome in sorted(filter(None, outcomes), key=lambda outcome: outcome.error is not None):
                    _pass_on(outcome)
                    if outcome.made:
                        left -= 1
                        yield outcome.made
        finally:
            for worker, _ in self._busy.values():
                ray.kill(worker)

    def _engage(self) -> None:
        worker = self._hire()
        self._busy[worker.prepare.remote(self._job)] = worker, None

    def _wait(self) -> list[Any]:
        """The tasks that have ended, at least one."""
        import ray

        tasks = list(self._busy)
        ready, _ = ray.wait(tasks, num_returns=1, timeout=None if self._begun else PATIENCE)
        if not ready:
            warnings.warn(
                f"no worker of Ray has started for {PATIENCE:.0f} s; free are {ray.available_resources()}, so others"
                " may use the cluster",
                RuntimeWarning,
                stacklevel=2,
            )
            ray.wait(tasks, num_returns=1)
        self._begun = True
        return ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]

    def _take(self, task: Any) -> Outcome | None:
        """What a task has brought, after its worker got the next batch; None if the worker is lost."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, batch = self._busy.pop(task)
        try:
            outcome: Outcome = ray.get(task)
        except RayTaskError as error:
            return Outcome([], [], FeaturevizError(f"a worker of Ray cannot run featureviz: {error.cause}"), error)
        except RayError as error:
            ray.kill(worker)  # it may only be out of reach
            return self._replace(batch, error)
        if batch is None:
            self._losses[None] = 0
        if self._waiting:
            following = self._waiting.popleft()
            self._busy[worker.render.remote(following)] = worker, following
        else:
            ray.kill(worker)
        return outcome

    def _replace(self, batch: Batch | None, error: Exception) -> Outcome | None:
        """Let another worker do what a lost one was doing; an error if too many were lost."""
        self._losses[batch] += 1
        lost = self._losses[batch]
        what = "got the network" if batch is None else f"rendered {batch[0].spec} and the rest of its batch"
        if lost >= TRIES * (self._size if batch is None else 1):
            text = (
                f"{lost} workers of Ray were lost while they {what}. Their memory may be full: take fewer workers, or"
                f" a plan with smaller batches. Finished tiles are kept, and the same call goes on. The last: {error}"
            )
            return Outcome([], [], FeaturevizError(text), error)
        warnings.warn(f"a worker of Ray was lost while it {what}; it is replaced", RuntimeWarning, stacklevel=2)
        if batch is not None:
            self._waiting.appendleft(batch)
        if self._waiting:
            self._engage()
        return None


def _pass_on(outcome: Outcome) -> None:
    """Warn and raise as the worker did."""
    for text, category in outcome.warned:
        warnings.warn(text, category, stacklevel=2)
    if outcome.error is not None:
        raise outcome.error from outcome.cause
