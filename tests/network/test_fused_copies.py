"""Fused copies over time: weights that change, interventions, copies of the model, what cannot be copied."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from tests.conftest import TinySE
from tests.network.test_fused import Written, agree, drawn, execute, norms, prepared, straight, wrapped
from tests.network.test_model import same, state_of


def layout(net: nn.Module) -> list[Any]:
    return [(t.stride(), t.data_ptr(), type(t)) for t in (*net.parameters(), *net.buffers())]


def test_nobodys_network_changes() -> None:
    net = drawn(TinySE()).train()
    model = fv.wrap(net, mean=0.4, std=0.3, size=12)
    watched = [net, model.net]
    kinds = [[type(m) for m in n.modules()] for n in watched]
    before, lay = [state_of(n) for n in watched], [layout(n) for n in watched]
    for precision in ("float32", "bfloat16"):
        with torch.no_grad():
            execute(model, "conv", "output", precision=precision)(torch.rand(2, 3, 12, 12))
    fv.render(model, "conv:1", steps=2, size=12, views=2, progress=False)
    assert kinds == [[type(m) for m in n.modules()] for n in watched]
    assert lay == [layout(n) for n in watched]
    assert all(same(b, state_of(n)) for b, n in zip(before, watched, strict=True))


CHANGES: dict[str, Callable[[nn.Parameter], object]] = {
    "in place": lambda p: p.mul_(2),
    "init": lambda p: nn.init.constant_(p, 0.2),
    "sgd": lambda p: torch.optim.SGD([p], lr=0.5).step(),
    "fused adam": lambda p: torch.optim.Adam([p], lr=0.5, fused=True).step(),
    "data": lambda p: p.data.mul_(2),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("which", ["stem.0.weight", "conv.weight", "stem.1.weight"])
def test_weights_that_change_are_seen_by_the_next_ascent(how: str, which: str) -> None:
    net = drawn(TinySE())
    model = fv.wrap(net, size=12)
    parameter, x = net.get_parameter(which), torch.rand(2, 3, 12, 12)
    parameter.grad = torch.ones_like(parameter)
    first = execute(model, "output")(x)["output"]
    with torch.no_grad():
        CHANGES[how](parameter)
    second, mine = execute(model, "output")(x)["output"], model(x, ["output"])["output"]
    assert (first - mine).abs().max() > 1e-3
    torch.testing.assert_close(second, mine)


def test_an_executor_has_the_interventions_it_was_made_under() -> None:
    model, x = wrapped(TinySE()), torch.rand(2, 3, 12, 12)
    before = execute(model, "conv")
    free = before(x)["conv"]
    assert before.fused
    with fv.clamp(model, "se", 0.5):
        inside = execute(model, "conv")
        assert not inside.fused
        held = model(x, ["conv"])["conv"]
        for executor, expected in ((inside, held), (before, free)):
            assert torch.equal(executor(x)["conv"], expected)
    assert (held - free).abs().max() > 1e-2
    for executor, expected in ((inside, held), (before, free), (execute(model, "conv"), free)):
        assert torch.equal(executor(x)["conv"], expected)


def test_hooks_of_the_callers_network_count() -> None:
    net, x = drawn(TinySE()), torch.rand(1, 3, 12, 12, requires_grad=True)
    free = execute(fv.wrap(net, size=12), "conv")
    net.get_submodule("stem").register_full_backward_hook(lambda _m, grads, _out: (grads[0] * 0,))
    hooked = execute(fv.wrap(net, size=12), "conv")
    assert not hooked.fused
    assert not torch.autograd.grad(hooked(x)["conv"].sum(), x)[0].any()
    assert torch.autograd.grad(free(x)["conv"].sum(), x)[0].any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_model_makes_its_own_fused_copies(duplicate: Callable[[fv.TappedModel], fv.TappedModel]) -> None:
    model, x = fv.wrap(drawn(TinySE()), size=12), torch.rand(2, 3, 12, 12)
    execute(model, "output")(x)
    execute(model, "input", "conv")(x)
    plain = len(pickle.dumps(fv.wrap(drawn(TinySE()), size=12)))
    twin = duplicate(model)
    assert len(pickle.dumps(model)) < 1.5 * plain
    for _ in range(3):
        with torch.no_grad():
            next(twin.net.parameters()).mul_(1.02)
        torch.testing.assert_close(execute(twin, "output")(x)["output"], twin(x, ["output"])["output"])
    agree(model, ["output"])


def test_a_model_that_is_moved_or_cast_leaves_its_fused_copies_behind() -> None:
    model, x = wrapped(Written(straight)), torch.rand(2, 3, 12, 12)
    execute(model, "bn")(x)
    moved = model.on("meta")
    assert all(t.device.type == "meta" for t in moved.state_dict().values())
    assert norms(execute(model, "bn").running.net) == norms(model.net) - 1
    model.half()
    assert torch.equal(execute(model, "bn")(x)["bn"], model(x, ["bn"])["bn"].float())


def test_an_entrance_that_cannot_be_copied() -> None:
    class Entrance:
        def __init__(self) -> None:
            self.lock, self.entered = threading.Lock(), 0

        def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
            self.entered += 1
            return net(x * 2)

    for entrance in (Entrance(), Entrance().__call__):
        model = wrapped(Written(straight), forward_fn=entrance)
        assert norms(agree(model, ["bn"]).running.net) == norms(model.net) - 1


class Entering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x * self.gain)


def test_an_entrance_that_is_a_module() -> None:
    model = wrapped(Written(straight), forward_fn=Entering())
    agree(model, ["bn"])
    assert isinstance(model.running.forward_fn, Entering)
    with torch.no_grad():
        model.running.forward_fn.gain.mul_(3)
    agree(model, ["bn"])


def test_a_network_that_remembers_a_tensor() -> None:
    """Copied while it remembers one it could not be; each of its forwards runs on a copy of its own."""

    def remember(m: Any, x: Tensor) -> Tensor:
        m.last = m.bn(m.conv(x))
        return m.last * 2

    model, x = wrapped(Written(remember)), torch.rand(1, 3, 12, 12, requires_grad=True)
    model(x, ["output"])
    agree(model, ["conv"])
    agree(model, ["output"])


def test_a_network_that_counts_its_runs_is_not_prepared_anew_each_time() -> None:
    def count(m: Any, x: Tensor) -> Tensor:
        m.runs.add_(1)
        return straight(m, x)

    net = Written(count)
    net.register_buffer("runs", torch.zeros(()))
    model = wrapped(net)
    first = prepared(model, "output")
    execute(model, "output")(torch.rand(1, 3, 12, 12))
    assert prepared(model, "output") is first


def test_fused_copies_do_not_pile_up() -> None:
    """A gallery of every layer must not hold a network a layer."""
    net = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)) for _ in range(20)))
    model = wrapped(net)
    made = [weakref.ref(prepared(model, f"{i}.1").running) for i in range(20)]
    gc.collect()
    assert sum(twin() is not None for twin in made) <= 10


class Float32Only(nn.Module):
    """A forward that a float64 copy cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.bn(self.conv(x)).float())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_that_runs_in_float32_only_runs_as_it_is() -> None:
    model = fv.wrap(drawn(Float32Only()).cuda(), size=12)
    assert not execute(model, "output").fused
    assert fv.render(model, "last:1", steps=2, size=12, views=2, progress=False).images.isfinite().all()
