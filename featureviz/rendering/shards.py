"""Several devices for one render: each gets some of the images, a thread and a network of its own."""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar, final

import torch

from featureviz.checks import entries, show
from featureviz.errors import InvalidInput
from featureviz.image import Parameterization
from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective
from featureviz.rng import number_images

Device = torch.device | str | None
Devices = Device | Sequence[torch.device | str]
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Shard:
    """The work of one device: some of the images, with their own numbers."""

    model: TappedModel
    objective: Objective
    image: Parameterization
    image_ids: list[int]


def copy_to_devices(model: TappedModel, device: Devices) -> list[TappedModel]:
    """The model on each device; ``"cuda:all"`` means all CUDA devices. The model itself is used where it already is.

    A device that is named twice gets two copies, so that threads share nothing. Several GPUs have not been tried yet.
    """
    several = isinstance(device, Iterable) and not isinstance(device, str)
    wanted: list[Any] = entries("device", device, of="devices") if several else [device]
    if wanted == ["cuda:all"]:
        wanted = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if not wanted:
        raise InvalidInput(f"device={show(device)} names no device that is here; give one, such as 'cpu'")
    copies: list[TappedModel] = []
    for one in wanted:
        twin = model.on(one)
        copies.append(copy.deepcopy(model) if any(twin is other for other in copies) else twin)
    return copies


def split_images(
    models: Sequence[TappedModel], objective: Objective, image: Parameterization, image_ids: Iterable[int] | None = None
) -> list[Shard]:
    """Split the images among the models, in order and as evenly as possible.

    An image depends on its own number alone, so the images are the same as on one device. If the objective or an
    intervention looks at the whole batch, this is not true: then the first model gets all images, with a warning.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> goal, image = fv.Channel("features.6", [3, 1, 4]), fv.FourierImage(3, 64)
    >>> shards = split_images(copy_to_devices(model, ["cpu", "cpu"]), goal, image)
    >>> [(shard.objective, len(shard.image), shard.image_ids) for shard in shards]
    [(features.6:3, 1, [0]), (features.6:[1, 4], 2, [1, 2])]
    """
    n, count, ids = len(image), min(len(models), len(image)), number_images(len(image), image_ids)
    if objective.n not in (1, n):
        raise InvalidInput(f"the objective {objective.spec} describes {objective.n} images; {n} were given")
    together = [objective.spec] if objective.across_batch else []
    together += [i.text for i in interventions_on(models[0].key) if i.across_batch]
    if together and count > 1:
        warnings.warn(
            f"{together[0]} looks across the batch, so the batch cannot be split: one device renders all images",
            RuntimeWarning,
            stacklevel=2,
        )
        count = 1
    if count == 1:
        return [Shard(models[0], objective, image, ids)]
    bounds = [i * n // count for i in range(count + 1)]
    return [
        Shard(model, objective.select(range(i, j)), select_images(image, range(i, j)), ids[i:j])
        for model, i, j in zip(models, bounds, bounds[1:], strict=False)
    ]


def select_images(image: Parameterization, images: range) -> Parameterization:
    """Some images of a batch as a batch of their own: their rows of each leaf. Everything else stays the same."""
    twin, n = copy.deepcopy(image), len(image)
    for name, leaf in twin.named_parameters():
        if leaf.shape[:1] != (n,):
            raise InvalidInput(
                f"{type(image).__name__}.{name} is {list(leaf.shape)} for {n} images; expected a row each, to be shared"
                " among devices; give one device"
            )
        leaf.data = leaf.data[images.start : images.stop].clone()
    return twin


class Worker(NamedTuple):
    """One of several threads that end together: after ``stop`` by any of them, each ends at the same ``tick``.

    Each worker calls ``tick`` at the same points; it raises KeyboardInterrupt at the point where all end.
    """

    tick: Callable[[], None]
    stop: Callable[[], None]


@final
class StopBarrier:
    """Counts the ticks of each worker; raises KeyboardInterrupt at the tick at which all are to stop."""

    def __init__(self, workers: int) -> None:
        self._ticks, self._last, self._lock = [0] * workers, math.inf, threading.Lock()

    def tick(self, worker: int) -> None:
        with self._lock:
            self._ticks[worker] += 1
            over = self._ticks[worker] >= self._last
        if over:
            raise KeyboardInterrupt

    def stop(self) -> None:
        with self._lock:  # no worker can be further than just before the next tick of the foremost one
            self._last = min(self._last, max(self._ticks) + 1)


def run_side_by_side(works: Sequence[Callable[[Worker], T]], models: Sequence[TappedModel]) -> list[T]:
    """Run each work in a thread on the device of its model, and return the results; a single work needs no thread.

    Ctrl-C stops all of them at the same tick. If one raises an error, the others stop and the first error is raised.
    """
    barrier, errors = StopBarrier(len(works)), list[BaseException]()
    workers = [Worker(partial(barrier.tick, number), barrier.stop) for number in range(len(works))]
    if len(works) == 1:
        return [works[0](workers[0])]

    def do(number: int) -> T:
        device = models[number].device
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                return works[number](workers[number])
        except BaseException as error:
            errors.append(error)
            barrier.stop()
            raise

    with ThreadPoolExecutor(len(works), thread_name_prefix="featureviz") as pool:
        futures = list[Future[T]]()
        try:
            for number in range(len(works)):
                futures.append(pool.submit(copy_context().run, do, number))
            while wait(futures, timeout=0.2).not_done:
                pass  # Python handles Ctrl-C between two waits, whichever thread got the signal
        except BaseException as error:
            barrier.stop()  # then the pool waits for its threads
            if not isinstance(error, KeyboardInterrupt):
                raise
    if errors:
        raise errors[0]
    if len(futures) < len(works):
        raise KeyboardInterrupt  # some have not begun
    return [future.result() for future in futures]
