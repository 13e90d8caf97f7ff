"""Redirected gradients: where a dead row gets a way up, where nothing may change, and that units then wake."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.network.copies.redirect import redirected
from tests.conftest import TinySE
from tests.host_traffic import HostTraffic
from tests.network.test_model import same, state_of

EDGE = math.exp(-12) / (1 + math.exp(-12)) ** 2  # a sigmoid's slope at 12
FAR = math.exp(-13) / (1 + math.exp(-13)) ** 2
CASES = {  # module; dead rows: x, incoming, what must be passed; then a row that is alive: x
    "relu": (nn.ReLU(), [([-2, -1, 0], [-5, 3, -2], [-5, 0, -2])], [-2, 1, -1]),
    "relu6": (nn.ReLU6(), [([-2, 7, 8], [-5, -3, 2], [-5, 0, 2]), ([-1, 0, 6], [5, 4, -3], [0, 0, 0])], [-2, 1, 8]),
    "hardtanh": (nn.Hardtanh(-2, 1), [([-2, -3, 1], [-5, 3, 2], [-5, 0, 2])], [-2, -1.5, 8]),
    "hardsigmoid": (nn.Hardsigmoid(), [([-4, 5, 3], [-6, -3, 12], [-1, 0, 2])], [-4, 1, 3]),
    "hardswish": (
        nn.Hardswish(), [([-4, -9, -3], [-5, 3, -2], [-5, 0, -2]), ([-2, -1, -4], [-1] * 3, [-1] * 3)], [-4, 1, -2],
    ),
    "sigmoid": (nn.Sigmoid(), [([-20, 90, -13], [-5, 4, 3], [-5 * EDGE, 4 * EDGE, 3 * FAR])], [-20, 1, 90]),
}  # fmt: skip
ACTIVATIONS = {name: module for name, (module, _, _) in CASES.items()}


class Applied(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 1)


def rows(numbers: list[list[float]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 3, 1, 1)


def passed(net: nn.Module, x: Tensor, incoming: Tensor, *, redirect: bool = True) -> tuple[Tensor, Tensor]:
    """What ``net`` gives for x, and what it passes back of ``incoming``."""
    model, x = fv.wrap(net), x.clone().requires_grad_()
    with redirected(model) if redirect else nullcontext():
        y = model(x, ["output"])["output"]
    return y.detach(), torch.autograd.grad(y, x, incoming)[0]


@pytest.mark.parametrize("name", CASES)
def test_dead_rows_pass_what_leads_out_of_the_flat_end(name: str) -> None:
    module, dead, alive = CASES[name]
    x, incoming = rows([*(row for row, _, _ in dead), alive]), rows([*(g for _, g, _ in dead), dead[0][1]])
    expected, n = rows([out for _, _, out in dead]), len(dead)
    plain_y, plain = passed(module, x, incoming, redirect=False)
    y, got = passed(module, x, incoming)
    assert torch.equal(y, plain_y)
    torch.testing.assert_close(got[:n], expected)
    assert not torch.equal(got[0], plain[0])
    assert torch.equal(got[n:], plain[n:])  # the row that is alive, in the same batch
    assert plain[n:].any()
    for i in range(n + 1):
        assert torch.equal(passed(module, x[i : i + 1], incoming[i : i + 1])[1], got[i : i + 1])


@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_alive_keep_their_gradient(name: str) -> None:
    torch.manual_seed(0)
    x, incoming, way = 4 * torch.randn(16, 3, 5, 5), torch.randn(16, 3, 5, 5), torch.randn(16, 3, 5, 5)
    plain, got = (passed(ACTIVATIONS[name], x, incoming, redirect=r)[1] for r in (False, True))
    assert torch.equal(got, plain)
    up, down = (ACTIVATIONS[name](x.double() + h * way) for h in (1e-7, -1e-7))
    differences = ((up - down) / 2e-7 * incoming).flatten(1).sum(1).float()
    torch.testing.assert_close((got * way).flatten(1).sum(1), differences, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in CASES if name != "hardsigmoid"])  # its own backward makes it a 0
def test_a_nan_is_not_hidden(name: str) -> None:
    x, incoming = rows([[-99, math.nan, -99]]), rows([[-1, -1, -1]])
    plain, got = (passed(ACTIVATIONS[name], x, incoming, redirect=r) for r in (False, True))
    for a, b in zip(plain, got, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_a_sigmoids_gradient_does_not_jump_where_its_flat_end_begins() -> None:
    slopes = [passed(nn.Sigmoid(), rows([[z] * 3]), rows([[sign] * 3]))[1].mean() for z, sign in
              ((-11.99, -1), (-12.01, -1), (11.99, 1), (12.01, 1))]  # fmt: skip
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0.03, atol=0)
    torch.testing.assert_close(slopes[2], slopes[3], rtol=0.03, atol=0)


SAME: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "relu": [
        F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, lambda x: F.relu(x, inplace=True),
        lambda x: torch.relu(input=x), lambda x: F.relu_(x),
    ],
    "relu6": [F.relu6, lambda x: F.relu6(x, True), lambda x: F.hardtanh(x, 0, 6), lambda x: F.hardtanh(x, 0, 6, True)],
    "hardtanh": [lambda x: F.hardtanh(x, -2, 1)],
    "hardsigmoid": [F.hardsigmoid, lambda x: F.hardsigmoid(x, True)],
    "hardswish": [F.hardswish, lambda x: F.hardswish(x, True)],
    "sigmoid": [
        torch.sigmoid, Tensor.sigmoid, torch.sigmoid_, Tensor.sigmoid_, F.sigmoid, torch.special.expit,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, functions in SAME.items() for i in range(len(functions))])
def test_functions_are_redirected_as_modules_are(name: str, i: int) -> None:
    module, dead, alive = CASES[name]
    x, incoming = rows([dead[0][0], alive]), rows([dead[0][1]] * 2)

    def statement(x: Tensor) -> Tensor:
        SAME[name][i](x)  # in place, the result dropped
        return x

    truth = passed(module, x, incoming)
    for function in (SAME[name][i], statement):
        net = Applied(function)
        y, got = passed(net, x, incoming)
        plain_y, plain = passed(net, x, incoming, redirect=False)
        assert torch.equal(y, plain_y)
        if function is statement and torch.equal(y, x):
            assert torch.equal(got, plain)  # not in place: nothing happened
        else:
            assert torch.equal(y, truth[0])
            assert torch.equal(got, truth[1])


def test_the_network_may_overwrite_what_autograd_does_not_keep() -> None:
    """Of a ReLU and a sigmoid it keeps the output, of the others the input: the redirected form no more than that."""

    def input_of(name: str) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            y = ACTIVATIONS[name](x)
            x.zero_()
            return y + x

        return forward

    def output_of(name: str) -> Callable[[Tensor], Tensor]:
        return lambda x: ACTIVATIONS[name](x).add_(1)

    for name, (_, dead, alive) in CASES.items():
        x, incoming = rows([dead[0][0], alive]), rows([dead[0][1]] * 2)
        truth = passed(ACTIVATIONS[name], x, incoming)[1]
        network = Applied((input_of if name in ("relu", "sigmoid") else output_of)(name))
        assert torch.equal(passed(network, x, incoming)[1], truth)


class Entered(nn.Module):
    def forward(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x)


def dies() -> Tensor:
    """What a dead ReLU outside any network passes back."""
    x = torch.full((1, 3), -1.0, requires_grad=True)
    return torch.autograd.grad(F.relu(x).sum(), x, torch.tensor(-1.0))[0]


@pytest.mark.parametrize("forward_fn", [None, lambda net, x: net(x), Entered()], ids=["plain", "function", "module"])
def test_everything_is_as_before(net: TinySE, forward_fn: Callable[[nn.Module, Tensor], Tensor] | None) -> None:
    model = fv.wrap(net, size=24, forward_fn=forward_fn)
    model.layers()
    callers, inner, attributes, parts = state_of(net), state_of(model.net), dict(vars(model)), list(model.modules())

    @fv.objective
    def broken(a: Tensor) -> Tensor:
        assert not dies().any()  # objectives see ordinary activations, also after an early exit
        raise KeyError("mine")

    x = torch.rand(2, 3, 24, 24, requires_grad=True)
    plain = model(x, ["conv", "gate value:se"])
    with redirected(model):
        seen = model(x, ["conv", "gate value:se"])
    assert all(torch.equal(seen[name], plain[name]) for name in plain)
    with pytest.raises(KeyError), redirected(model):
        broken("stem")(model(x, ["stem"]))
    with redirected(model), pytest.raises(fv.FeaturevizError):
        model(torch.rand(2, 3, 1, 1, 1, requires_grad=True), ["conv"])
    assert not dies().any()
    assert vars(model) == attributes
    assert list(model.modules()) == parts
    assert model.running.forward_fn is forward_fn
    assert same(callers, state_of(net))
    assert same(inner, state_of(model.net))


def test_a_copy_made_meanwhile_is_redirected_for_as_long() -> None:
    model, x = fv.wrap(nn.Sequential(nn.ReLU(inplace=True))), torch.full((1, 3, 2, 2), -1.0, requires_grad=True)

    def wakes(model: fv.TappedModel) -> bool:
        return bool(torch.autograd.grad(-model(x, ["0"])["0"].sum(), x)[0].any())

    with redirected(model):
        twin = copy.deepcopy(model)
        assert wakes(model)
        assert wakes(twin)
        with redirected(twin):
            assert wakes(twin)
        assert wakes(twin)
    assert not wakes(model)
    assert not wakes(twin)


def test_a_network_that_is_not_wrapped_is_refused(net: TinySE) -> None:
    with pytest.raises(InvalidInput, match="wrap it first"), redirected(net):  # type: ignore[arg-type]
        pass


def climbed(model: fv.TappedModel, goal: fv.Objective, redirect: int, steps: int = 48, n: int = 1) -> fv.Ascent:
    ascent = fv.Ascent(
        model, goal, fv.FourierImage(n, 24, seed=1), transforms=[], optimizer=fv.Adam(0.1), steps=steps,
        runtime=fv.Runtime(redirect=0),
    )  # fmt: skip
    for step in range(steps):
        with redirected(model) if step < redirect else nullcontext():
            ascent.step()
    ascent.check()
    return ascent


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish()], ids=repr)
def test_a_dead_unit_wakes(net: TinySE, activation: nn.Module) -> None:
    """Every activation of the layer is zero on noise: without redirection there is nothing to climb."""
    net.stem[2], top = activation, -3.5 if isinstance(activation, nn.Hardswish) else -0.5
    with torch.no_grad():
        net.stem[1].weight.fill_(20)
        z = fv.wrap(net, size=24)(fv.FourierImage(1, 24, seed=1)(), ["stem.1"])["stem.1"]
        net.stem[1].bias += top - z.amax((0, 2, 3))
    model = fv.wrap(net, size=24)
    stuck, woken = (climbed(model, fv.Channel("stem.2", 3), redirect) for redirect in (0, 16))
    assert stuck.scores.abs().max() == 0
    assert woken.scores[0] == 0
    assert woken.scores[16] > 0.1
    assert woken.scores[-1] > woken.scores[16] + 0.1  # on its own slope once it is awake


def closed(net: TinySE, logit: float) -> fv.TappedModel:
    """Gate 3 of the block starts at ``logit``."""
    with torch.no_grad():
        net.se.fc2.weight.mul_(200)
        z = fv.wrap(net, size=24)(fv.FourierImage(1, 24, seed=1)(), ["gate:se"])["gate:se"]
        net.se.fc2.bias[3] += logit - z[0, 3]
    return fv.wrap(net, size=24)


@fv.objective
def value(a: Tensor, unit: int) -> Tensor:
    """A gate's value, which unlike its logit has no slope where the gate is shut."""
    return a[:, unit]


@pytest.mark.parametrize("sign", [1, -1], ids=["opens", "closes"])
def test_a_saturated_gate_moves(net: TinySE, sign: int) -> None:
    model = closed(net, -3.2 * sign)
    goal = sign * value("gate value:se", 3)
    stuck, moved = climbed(model, goal, 0), climbed(model, goal, 16)
    start = stuck.scores[0]
    assert torch.equal(stuck.images(), fv.FourierImage(1, 24, seed=1)().detach())
    assert start == (0 if sign > 0 else -1)
    assert moved.scores[-1] > start + 0.02


def test_each_image_of_a_batch_wakes_on_its_own(net: TinySE) -> None:
    """Image 0 wants a dead channel, image 1 a living one; alone or together they move alike."""
    with torch.no_grad():
        net.stem[1].bias[3] = -1.0
    model, goal = fv.wrap(net, size=24), fv.Channel("stem.2", [3, 1])
    with redirected(model):
        x = fv.FourierImage(2, 24, seed=1)().detach().requires_grad_()
        together = torch.autograd.grad(-goal(model(x, goal.layers, fv.Rows.make(2))).sum(), x)[0]
        for i in range(2):
            alone = torch.autograd.grad(-goal.select([i])(model(x[i : i + 1], goal.layers)).sum(), x)[0][i]
            torch.testing.assert_close(together[i], alone)
            assert alone.any()


def test_a_redirected_step_stays_on_the_device(net: TinySE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureviz.network.copies.redirect._on_host", lambda tensor: False)  # as on any other device
    model = closed(net, -4.0)
    goal = value("gate value:se", 3) + fv.Channel("conv", 1)
    ascent = fv.Ascent(model, goal, fv.FourierImage(2, 24), runtime=fv.Runtime(redirect=0))
    ascent.step()
    with HostTraffic() as found, redirected(model):
        ascent.step()
    assert found == []
