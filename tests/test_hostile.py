"""A short part of the study of hostile inputs, and that the study sees what it looks for."""

import inspect
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import featureviz as fv
from benchmarks.studies import hostile
from benchmarks.studies.hostile_calls import find_targets
from benchmarks.studies.hostile_cases import Case, Mismatch, attempt, make_model, make_network, try_cases
from benchmarks.studies.hostile_specs import check_read_back, read

SHARES = {"calls": 0.02, "files": 0.025, "Ctrl-C": 0.04, "threads": 0.12}  # specs, which are timed, have own tests
LEAST = {"calls": 400, "files": 20, "Ctrl-C": 40, "threads": 12}


@pytest.mark.parametrize("part", SHARES)
def test_no_hostile_input_breaks_the_library(part: str) -> None:
    tried, failures = hostile.PARTS[part](0, SHARES[part])
    assert tried >= LEAST[part]
    assert failures == []


def test_every_public_name_is_called() -> None:
    called = {target.name.partition(".")[0].removesuffix("()") for target in find_targets()}
    packages = (fv, fv.lab, fv.transform, fv.nn)
    public = {name: getattr(package, name) for package in packages for name in package.__all__}
    functions = {name for name, value in public.items() if callable(value) and not inspect.isclass(value)}
    assert functions <= called
    assert {"Channel", "Rendering", "TappedModel", "Adam", "Jitter", "FourierImage", "SEModule"} <= called


def make_bad_cases() -> Sequence[Case]:
    """What a worker must survive, and a case after each."""
    bad: list[Callable[[], object]] = [
        lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda: time.sleep(60), lambda: torch.zeros(1 << 40),
        lambda: 1 / 0, lambda: fv.parse("("), lambda: read("a:1"),
    ]  # fmt: skip
    return [Case(str(number), run) for number, run in enumerate(bad)]


def test_crashes_hangs_and_errors_are_told_apart() -> None:
    failures = try_cases(make_bad_cases, range(6), seconds=2)
    assert [(f.case, f.kind) for f in failures] == [("0", "crash"), ("1", "hang"), ("2", "raw"), ("3", "raw")]
    assert "ZeroDivisionError" in failures[3].error


class Nothing(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **kwargs or {})


ENTERED: list[Any] = []  # blocks that a leak has entered and not left


def enter(block: Any) -> None:
    block.__enter__()
    ENTERED.append(block)


LEAKS: dict[str, Callable[[fv.TappedModel], object]] = {
    "function modes": lambda _: enter(Nothing()),
    "hooks": lambda model: model.net.register_forward_hook(lambda *_: None),
    "no gradients": lambda _: enter(torch.no_grad()),
    "autocast": lambda _: enter(torch.autocast("cpu")),
    "inference mode": lambda _: enter(torch.inference_mode()),
    "another": lambda model: enter(fv.clamp(model, "se", 0.0)),
}


@pytest.mark.parametrize("what", LEAKS)
def test_what_an_interrupted_work_leaves_is_seen(what: str) -> None:
    net, work = make_network(), hostile.WORKS[0]._replace(run=LEAKS[what])
    model = make_model(net)
    reference = hostile.picture(model, work)
    failure = attempt(Case(what, partial(hostile.check_after, work, net, model, 10.0, reference)))
    for _ in range(len(ENTERED)):
        ENTERED.pop().__exit__(None, None, None)
    assert failure is not None
    assert failure.kind == "mismatch"
    assert what in failure.error


def test_a_slow_and_a_lossy_spec_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fv, "parse", lambda *_: fv.Channel("stem", 2))
    with pytest.raises(Mismatch, match="read back"):
        check_read_back(fv.Channel("stem", 1))
    check_read_back(fv.Channel("stem", 2))
    seconds = iter([0.0, 2.0])
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))
    with pytest.raises(Mismatch, match="took"):
        read("stem:2")
