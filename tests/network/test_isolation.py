"""One model, several users at once: every forward runs on a copy of its own."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

import featureviz as fv


def run_together(*works: Callable[[], Tensor]) -> list[Tensor]:
    """What each work returns, all of them started at the same moment."""
    barrier, results = threading.Barrier(len(works)), list[Tensor](works and [torch.empty(0)] * len(works))

    def run(number: int) -> None:
        barrier.wait()
        results[number] = works[number]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def render(model: fv.TappedModel, goal: str) -> Tensor:
    return fv.render(model, goal, steps=4, size=24, progress=False).images


def test_renders_in_four_threads_are_the_renders_alone(tiny: fv.TappedModel) -> None:
    goals = ["conv:1", "gate:se:2", "stem.2:3", "conv:4 - 0.5*gate:se:1"]
    alone = [render(tiny, goal) for goal in goals]
    for _ in range(5):
        together = run_together(*(lambda goal=goal: render(tiny, goal) for goal in goals))
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_intervention_stays_in_its_thread(tiny: fv.TappedModel) -> None:
    x, inside, outside = torch.rand(2, 3, 24, 24), threading.Event(), threading.Event()

    def read() -> Tensor:
        return tiny(x, ["conv"])["conv"]

    def clamped() -> Tensor:
        with fv.clamp(tiny, "se", 0.0):
            inside.set()
            assert outside.wait(10)
            return read()

    def free() -> Tensor:
        assert inside.wait(10)
        result = read()
        outside.set()
        return result

    plain = read()
    first, second = run_together(clamped, free)
    assert torch.equal(second, plain)
    assert not torch.equal(first, plain)
    assert torch.equal(read(), plain)


def test_an_isolated_copy_keeps_its_hooks_to_itself(tiny: fv.TappedModel) -> None:
    x, running = torch.rand(1, 3, 24, 24), tiny.isolated()
    running.net.get_submodule("stem").register_forward_hook(lambda _module, _args, out: out * 0)
    assert not running.read(x, tiny.taps(["stem"], (24, 24)))["stem"].any()
    assert tiny(x, ["stem"])["stem"].any()
    assert not tiny.running.hooked
    shared = {p.data_ptr() for p in tiny.net.parameters()}
    assert {p.data_ptr() for p in running.net.parameters()} == shared


def test_gates_are_found_on_a_copy(tiny: fv.TappedModel) -> None:
    before = tiny.running
    assert list(tiny.gates) == ["se"]
    assert tiny.running is not before
    assert not tiny.running.hooked
    assert tiny.gates is tiny.gates
