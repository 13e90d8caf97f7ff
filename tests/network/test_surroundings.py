"""What the caller set in torch, and what Ctrl-C cuts short, changes no picture and leaves nothing behind."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import featureviz as fv
from featureviz.network.surroundings import modes_kept, own_surroundings, postponed_interrupts


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


WORLDS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("spec", ["conv:1", "gate:se:2", "logit:3", "stem:1@2,2"])
def test_a_picture_does_not_depend_on_what_the_caller_set(tiny: fv.TappedModel, world: str, spec: str) -> None:
    def work() -> fv.Rendering:
        return fv.render(tiny, spec, steps=4, size=24, views=2, progress=False)

    expected = work()
    with WORLDS[world]():
        made = work()
    assert made.images.dtype == made.scores.dtype == made.held_out.scores.dtype == torch.float32
    assert torch.equal(made.images, expected.images)
    assert torch.equal(made.held_out.scores, expected.held_out.scores)


@pytest.mark.parametrize("world", sorted(WORLDS.keys() - {"anomaly mode"}))
def test_a_network_is_learnt_alike_everywhere(net: torch.nn.Module, world: str) -> None:
    def work() -> tuple[list[str], str]:
        model = fv.wrap(net, mean=0.5, std=[0.25] * 3, size=24)
        return list(map(str, fv.layers(model))), repr(fv.gates(model))

    expected = work()
    with WORLDS[world]():
        assert work() == expected


def test_the_callers_generators_stay_where_they_are(tiny: fv.TappedModel) -> None:
    before = torch.get_rng_state()
    fv.wrap(tiny.net, size=24)
    fv.gates(fv.wrap(tiny.net, size=24))
    fv.render(tiny, "[conv:1, gate:se:2]", steps=2, size=24, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


class Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_a_mode_that_was_not_left_is_taken_away() -> None:
    outer = Mode()
    with outer:
        with modes_kept():
            Mode().__enter__()
            Mode().__enter__()
            torch._C._set_grad_enabled(False)
            torch.set_autocast_enabled("cpu", True)
        assert len(_get_current_function_mode_stack()) == 1
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
    assert not _get_current_function_mode_stack()


@own_surroundings
def look() -> tuple[bool, bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")


def test_a_function_has_surroundings_of_its_own() -> None:
    with torch.inference_mode(), torch.autocast("cpu"):
        assert look() == (True, False, False)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")


@pytest.fixture
def default_handler() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_waits_for_the_end_of_a_step() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), postponed_interrupts() as interrupted:  # noqa: PT012
        for i in range(3):
            steps.append(f"begin {i}")
            if i == 1:
                os.kill(os.getpid(), signal.SIGINT)
            steps.append(f"end {i}")
            interrupted()
    assert steps[-1] == "end 1"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_handler")
def test_a_second_ctrl_c_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), postponed_interrupts():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one was not honoured")


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_is_not_lost_where_nobody_looks() -> None:
    with pytest.raises(KeyboardInterrupt), postponed_interrupts():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_of_the_callers_stays() -> None:
    got: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        with postponed_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
        assert got == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may come inside a __del__
@pytest.mark.parametrize("spec", ["conv:1", "gate:se:2", "deepdream:stem"])
def test_an_interrupt_at_any_instant_leaves_the_model_as_it_was(tiny: fv.TappedModel, spec: str) -> None:
    """A timer raises it, wherever the render is then. (The benchmarks do this a thousand times.)"""

    def work() -> Tensor:
        return fv.render(tiny, spec, steps=3, size=24, progress=False).images

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    expected, started = work(), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(12):
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds * (i + 1) / 12)
                work()
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert not _get_current_function_mode_stack()
    assert torch.is_grad_enabled()
    assert not tiny.running.hooked
    assert torch.equal(work(), expected)


def test_many_threads_render_what_each_renders_alone(tiny: fv.TappedModel) -> None:
    def work(i: int) -> Tensor:
        changed = fv.clamp(tiny, "se", 0.1 * i) if i % 2 else nullcontext()
        redirected = fv.redirected(tiny) if i == 2 else nullcontext()
        with changed, redirected:
            return fv.render(tiny, f"conv:{i}", steps=2, size=24, progress=False).images

    alone, wrong = [work(i) for i in range(4)], list[int]()

    def repeat(i: int) -> None:
        wrong.extend(i for _ in range(3) if not torch.equal(work(i), alone[i]))

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def interrupt_exits(guard: type, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the work with Ctrl-C on the way out of one of its blocks of this kind, for nine of them."""
    leave, left = guard.__exit__, [0]

    def count_down(self: object, *args: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return leave(self, *args)

    monkeypatch.setattr(guard, "__exit__", count_down)
    work()
    exits = -left[0]
    for number in {1 + i * (exits - 1) // 8 for i in range(9)} if exits else []:
        left[0] = number
        with contextlib.suppress(KeyboardInterrupt):
            work()
        left[0] = 0  # so that pytest's own blocks end
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)
        assert not torch.is_autocast_enabled("cpu")
        assert not _get_current_function_mode_stack()


def make_ascent(model: fv.TappedModel) -> fv.Ascent:
    return fv.Ascent(model, fv.Channel("conv", 1), fv.FourierImage(1, 24), steps=9)


IMAGES = torch.rand(2, 3, 24, 24)
WORKS: dict[str, Callable[[fv.TappedModel], object]] = {
    "render": lambda model: fv.render(model, "conv:1", steps=2, size=24, progress=False),
    "evaluate": lambda model: fv.evaluate(model, "conv:1", IMAGES),
    "layers": lambda model: fv.layers(fv.wrap(model.net, size=24)),
    "gates": lambda model: fv.gates(fv.wrap(model.net, size=24)),
    "statistics": lambda model: fv.lab.GateStatistics.measure(model, IMAGES),
    "gradient": lambda model: fv.lab.gradient(model, "logit:1", IMAGES),
    "forward": lambda model: model(IMAGES, ["conv", "output"]),
    "executor": lambda model: fv.Executor(fv.wrap(model.net, size=24), ["conv"], (24, 24))(IMAGES),
    "ascent": lambda model: model.cached(make_ascent).run(1),
}


@pytest.mark.filterwarnings("ignore:.* images are still the noise")
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(
    "guard",
    [torch.inference_mode, torch.no_grad, torch.enable_grad, torch.autocast, contextlib._GeneratorContextManager],
)
def test_ctrl_c_on_the_way_out_of_a_block_leaves_no_mode(
    tiny: fv.TappedModel, work: str, guard: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    with modes_kept():  # so that one failure is no other's
        interrupt_exits(guard, lambda: WORKS[work](tiny), monkeypatch)


@own_surroundings
def take_handler() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@pytest.mark.usefixtures("default_handler")
def test_the_handler_is_put_back_whatever_was_cut_short() -> None:
    with pytest.raises(KeyboardInterrupt):
        take_handler()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
