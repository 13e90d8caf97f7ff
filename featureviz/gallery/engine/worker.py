"""A worker of a cluster: it holds the network, and renders one batch after the other.

What crosses to a worker and back is packed here, so that what cannot cross becomes an error that says so.
"""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, final

import torch

from featureviz.errors import InvalidInput, ModelError
from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.network.in_force import Intervention, intervening, interventions_on
from featureviz.network.model import TappedModel

VERSIONS = ("featureviz", "torch")  # two versions of either may round in another way


class Outcome(NamedTuple):
    """What a worker sends back: tiles, the warnings of making them, or an error and what caused it."""

    made: list[Made]
    warned: list[tuple[str, type[Warning]]]
    error: Exception | None = None
    cause: BaseException | None = None


@final
@dataclass(frozen=True)
class Job:
    """What every worker gets once. The network, the options of ``fv.render`` and the interventions are pickles."""

    model: bytes
    options: bytes
    interventions: bytes
    fingerprint: str
    versions: Mapping[str, str]

    @classmethod
    def pack(cls, model: TappedModel, options: Mapping[str, Any]) -> Job:
        """The job of rendering ``model``, with the interventions that are in force now.

        Raises:
            InvalidInput: one of them cannot be pickled.
        """
        interventions = [_move(i, torch.device("cpu")) for i in interventions_on(model.key)]
        return cls(
            _pack(f"the network {model.name}", model.on("cpu")),
            _pack("an option of the recipe", dict(options)),
            _pack("an intervention that is in force", interventions),
            take_fingerprint(model),
            _find_versions(),
        )


@final
class Worker:
    """An actor of Ray. ``device`` is where its network is, and ``threads`` how many threads of the CPU it uses."""

    def __init__(self, threads: int, device: str) -> None:
        self.threads, self.device = threads, torch.device(device)

    def prepare(self, job: Job) -> Outcome:
        """Take the network, and check that it is what was sent."""
        return _attempt(partial(self._prepare, job))

    def render(self, tiles: Sequence[Tile]) -> Outcome:
        """Render a batch."""
        return _attempt(partial(self._render, tiles))

    def _prepare(self, job: Job) -> list[Made]:
        here = _find_versions()
        if here != job.versions:
            raise InvalidInput(
                f"a worker has {_show_versions(here)}, and the process that plans has {_show_versions(job.versions)};"
                " install the same versions on every machine of the cluster, or pixels would differ"
            )
        self.model = _unpack("the network", job.model).on(self.device)
        self.options = _unpack("the recipe", job.options)
        self.interventions = [_move(i, self.device) for i in _unpack("an intervention", job.interventions)]
        torch.set_num_threads(self.threads)  # after the imports, of which one might set another number
        with intervening(self.interventions):
            found = take_fingerprint(self.model)
        if found != job.fingerprint:
            raise InvalidInput(
                f"{self.model.name} is another network in a worker than in the process that sent it: a pickle does not"
                " keep all of it; render with the local engine"
            )
        return []

    def _render(self, tiles: Sequence[Tile]) -> list[Made]:
        with intervening(self.interventions):
            return render_batch(self.model, tiles, self.options)


def _attempt(work: Callable[[], list[Made]]) -> Outcome:
    """What ``work`` returns, warns of and raises, as a value. The process that plans then warns and raises itself."""
    made, error, cause = list[Made](), None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = work()
        except Exception as failed:  # whatever the network, an objective or a transform raises
            failed.add_note(f"In a worker:\n{traceback.format_exc()}")
            error, cause = failed, failed.__cause__
    warned = dict.fromkeys((str(warning.message), warning.category) for warning in caught)
    return _make_sendable(Outcome(made, list(warned), error, cause))


def _make_sendable(outcome: Outcome) -> Outcome:
    """The outcome; an error that cannot be pickled and read again becomes a ``ModelError`` with its text."""
    from ray.cloudpickle.cloudpickle import dumps

    error = outcome.error
    try:
        pickle.loads(dumps((error, outcome.cause)))
    except Exception as reason:  # whatever the class of the error does
        text = ModelError(f"{type(error).__name__}: {error}")
        text.add_note(f"The error itself cannot be sent by a worker: {reason}\n{traceback.format_exc()}")
        return outcome._replace(error=text, cause=None)
    return outcome


def _pack(what: str, value: Any) -> bytes:
    from ray.cloudpickle.cloudpickle import dumps

    try:
        return dumps(value)
    except Exception as error:  # whatever the classes in it do
        raise InvalidInput(
            f"{what} cannot be sent to workers: {type(error).__name__}: {error}; expected what can be pickled: render"
            " with the local engine, or leave out what holds an open file, a lock or a parametrization"
        ) from error


def _unpack(what: str, packed: bytes) -> Any:
    try:
        return pickle.loads(packed)
    except Exception as error:  # whatever the classes in it do
        raise InvalidInput(
            f"a worker cannot read {what}: {type(error).__name__}: {error}; install the packages and modules that it"
            " comes from on every machine of the cluster"
        ) from error


def _move(intervention: Intervention, device: torch.device) -> Intervention:
    return intervention if intervention.units is None else replace(intervention, units=intervention.units.to(device))


def _find_versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONS}


def _show_versions(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())
