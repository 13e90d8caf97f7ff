"""The engine on a cluster of Ray: ``pip install 'featureviz[ray]'``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch

from featureviz.checks import finite, instance, show, whole
from featureviz.errors import InvalidInput
from featureviz.gallery.engine.crew import Crew
from featureviz.gallery.engine.worker import Job, Worker
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.network.model import TappedModel

LOCAL = "local"
ANSWER = 10.0  # seconds in which a cluster must answer
MOST_WORKERS, MOST_THREADS, MOST_GPUS = 2**16, 2**12, 2**6


@final
@dataclass(frozen=True)
class RayEngine:
    """Renders the batches of a plan by workers, each a process of Ray with the network in it.

    A cluster of this machine is started, and stopped at the end. If this process is connected to a cluster already
    (``ray.init``), that one is used, and stays. Interventions that are in force act in the workers too. torch's other
    global settings are the defaults there.

    The pixels are those of the local engine, if ``threads`` and the kind of processor or GPU are the same.

    Args:
        workers: how many; as many as the cluster has room for if left out.
        address: of a cluster that runs, as ``ray.init`` takes it: ``"auto"`` for the one of this machine.
        threads: of the CPU for each worker. If left out, as many as torch has in this process, and one for a GPU.
        gpus: for each worker; one where the cluster has any, if left out. A share such as 0.5 lets two workers use
            one GPU; 0 renders on the CPU.

    >>> RayEngine(workers=2, threads=1)
    RayEngine(workers=2, address=None, threads=1, gpus=None)
    """

    workers: int | None = None
    address: str | None = None
    threads: int | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        _require_ray()
        if self.workers is not None:
            whole("workers", self.workers, 1, MOST_WORKERS)
        if self.address is not None:
            instance("address", self.address, str)
        if self.threads is not None:
            whole("threads", self.threads, 1, MOST_THREADS)
        if self.gpus is not None and finite("gpus", self.gpus, 0, MOST_GPUS) > 1 and self.gpus % 1:
            raise InvalidInput(f"gpus={show(self.gpus)} was given; expected a whole number, or a share from 0 to 1")

    def __call__(
        self, model: TappedModel, batches: Sequence[Sequence[Tile]], options: Mapping[str, Any]
    ) -> Generator[list[Made]]:
        """The tiles of each batch, in the order in which they are finished.

        Raises:
            InvalidInput: there is no such cluster, it has no room for a worker, or the network or the recipe cannot be
                sent to a worker.
            FeaturevizError: three workers were lost with the same batch.
        """
        if options.get("device") is not None:
            raise InvalidInput(
                f"device={show(options['device'])} was given; workers of Ray get their GPUs from the cluster: give"
                " RayEngine(gpus=...) instead, 0 for the CPU"
            )
        if not batches:
            return
        job = Job.pack(model, options)
        import ray

        with self._cluster() as started:
            workers, threads, gpus = self._fit(started)
            actor: Any = ray.remote(Worker)
            actor = actor.options(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)
            sent = ray.put(job)
            yield from Crew(lambda: actor.remote(threads, "cuda" if gpus else "cpu"), sent, workers).render(batches)

    @contextmanager
    def _cluster(self) -> Iterator[bool]:
        """Be connected to a cluster; yields whether it was started here."""
        import ray

        if ray.is_initialized():
            if self.address is not None:
                raise InvalidInput(
                    f"address={show(self.address)} was given, but this process is connected to a cluster already; leave"
                    " it out, or call ray.shutdown() before"
                )
            yield False
            return
        started = self.address in (None, LOCAL)
        wanted = (self.threads or torch.get_num_threads()) * (self.workers or 1)
        try:
            self._connect(max(os.cpu_count() or 1, wanted) if started else None)
            yield started
        finally:
            ray.shutdown()

    def _connect(self, cores: int | None) -> None:
        """Join the cluster, or start one that lends so many cores."""
        import ray

        address, own = self.address or LOCAL, {} if cores is None else {"num_cpus": cores, "include_dashboard": False}
        try:
            _call(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
            with _quiet():
                ray.init(address, **own, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray has no class for it
            raise InvalidInput(
                f"cannot {'join' if cores is None else 'start'} the cluster of Ray at {address!r}: {error}; give the"
                " address of one that runs (ray start --head), and set RAY_AUTH_MODE=token if it wants a token; or give"
                " none"
            ) from error

    def _fit(self, started: bool) -> tuple[int, int, float]:
        """How many workers there are, and how many threads and GPUs each has."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        found = sum(node.get("GPU", 0) for node in nodes)
        gpus = (1.0 if found else 0.0) if self.gpus is None else float(self.gpus)
        threads = self.threads or (1 if gpus else torch.get_num_threads())
        room = sum(
            int(min(node.get("CPU", 0) / threads, node.get("GPU", 0) / gpus if gpus else MOST_WORKERS))
            for node in nodes
        )
        # More workers may wait for machines that a cluster adds by itself; one machine never grows.
        if room < ((self.workers or 1) if started else 1):
            cores = sum(node.get("CPU", 0) for node in nodes)
            raise InvalidInput(
                f"workers={show(self.workers)} was given, each with {threads} threads and {gpus:g} GPUs; expected at"
                f" most {room}, because the cluster has {cores:g} cores and {found:g} GPUs: give other threads= or"
                " gpus="
            )
        return self.workers or room, threads, gpus


def _call(address: str) -> None:
    """Raise ``OSError`` at once if nobody answers at ``HOST:PORT``; Ray itself tries for more than a minute."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()


def _require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise InvalidInput("the engine needs Ray, which is not installed: pip install 'featureviz[ray]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Start Ray without its messages and statistics, and leave the environment and the handlers as they were.

    Ray gives its workers a low priority, so they would stand still beside any busy program; here they have the usual.
    """
    before, logger = dict(os.environ), logging.getLogger("ray")
    level, main = logger.level, threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    try:
        yield
    finally:
        logger.setLevel(level)
        if main:
            signal.signal(signal.SIGTERM, handler)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
