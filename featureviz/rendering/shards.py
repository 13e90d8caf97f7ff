"""Sharing the images of a render among devices: a part of the batch for each, by a thread and a network of its own."""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar, final

import torch

from featureviz.errors import InvalidInput
from featureviz.image import Parameterization
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective

Device = torch.device | str | None
Devices = Device | Sequence[torch.device | str]
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Shard:
    """What one device has to do: some of the images, and their own numbers."""

    model: TappedModel
    objective: Objective
    image: Parameterization
    image_ids: Sequence[int] | None


def replicas(model: TappedModel, device: Devices) -> list[TappedModel]:
    """The model on each device: itself where it is on one, and copies; ``"cuda:all"`` are all CUDA devices.

    A device that is named twice gets two copies, so that threads share nothing.
    """
    wanted: list[Device] = [device] if device is None or isinstance(device, (str, torch.device)) else list(device)
    if wanted == ["cuda:all"]:
        wanted = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if not wanted:
        raise InvalidInput(f"device={device!r} names no device that is here; give one, such as 'cpu'")
    made: list[TappedModel] = []
    for one in wanted:
        twin = model.on(one)
        own = all(twin is not other for other in made)
        made.append(twin if own else copy.deepcopy(model))
    return made


def split_images(
    models: Sequence[TappedModel], objective: Objective, image: Parameterization, image_ids: Sequence[int] | None = None
) -> list[Shard]:
    """Images split among the models, in order and as evenly as can be.

    An image depends on its own number alone, so the images are those of one device. Where the objective looks across
    the batch that is not so, and the first model gets all, with a warning.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> shards = split_images(replicas(model, ["cpu", "cpu"]), fv.Channel("features.6", [3, 1, 4]), fv.FourierImage(3, 64))
    >>> [(shard.objective, len(shard.image), shard.image_ids) for shard in shards]
    [(features.6:3, 1, [0]), (features.6:[1, 4], 2, [1, 2])]
    """
    n, count = len(image), min(len(models), len(image))
    if objective.across_batch and count > 1:
        warnings.warn(
            f"{objective.spec} looks across the batch, which is not split: one device does all",
            RuntimeWarning,
            stacklevel=2,
        )
        count = 1
    if count == 1:
        return [Shard(models[0], objective, image, image_ids)]
    if objective.n not in (1, n) or len(image_ids or range(n)) != n:
        raise InvalidInput(f"{objective.spec} and image_ids={image_ids} were given for {n} images; expected one each")
    bounds = [i * n // count for i in range(count + 1)]
    return [
        Shard(model, objective.select(range(i, j)), select_images(image, range(i, j)), list(image_ids or range(n))[i:j])
        for model, i, j in zip(models, bounds, bounds[1:], strict=False)
    ]


def select_images(image: Parameterization, images: range) -> Parameterization:
    """Those images of a batch, as a batch of their own: rows of its leaves; what are no leaves is the same for all."""
    twin, n = copy.deepcopy(image), len(image)
    for name, leaf in twin.named_parameters():
        if leaf.shape[:1] != (n,):
            raise InvalidInput(
                f"{type(image).__name__}.{name} is {list(leaf.shape)} for {n} images; expected a row each, to be shared"
                " among devices; give one device"
            )
        leaf.data = leaf.data[images.start : images.stop].clone()
    return twin


@final
class Worker:
    """One of several threads that end together: after ``stop`` by any of them, each ends at the same ``tick``."""

    def __init__(self, barrier: StopBarrier, number: int) -> None:
        self._barrier, self._number = barrier, number

    def tick(self) -> None:
        """To be called at the same points by all; raises KeyboardInterrupt at the one where it ends."""
        self._barrier.tick(self._number)

    def stop(self) -> None:
        self._barrier.stop()


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
        with self._lock:  # nobody can be further than on the way to the next tick of the foremost
            self._last = min(self._last, max(self._ticks) + 1)


def run_side_by_side(works: Sequence[Callable[[Worker], T]], models: Sequence[TappedModel]) -> list[T]:
    """What each work returns, each done by a thread on its model's device; one alone is done here.

    Ctrl-C stops them all at one tick. If one raises, the others are stopped, and the first error is raised.
    """
    barrier, errors = StopBarrier(len(works)), list[BaseException]()
    if len(works) == 1:
        return [works[0](Worker(barrier, 0))]

    def do(number: int) -> T:
        device = models[number].device
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                return works[number](Worker(barrier, number))
        except BaseException as error:
            errors.append(error)
            barrier.stop()
            raise

    with ThreadPoolExecutor(len(works), thread_name_prefix="featureviz") as pool:
        futures = [pool.submit(copy_context().run, do, i) for i in range(len(works))]
        try:
            while wait(futures, timeout=0.2).not_done:
                pass  # Python sees Ctrl-C between two waits, whichever thread the signal went to
        except KeyboardInterrupt:
            barrier.stop()
            wait(futures)
    if errors:
        raise errors[0]
    return [future.result() for future in futures]
