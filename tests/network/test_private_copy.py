"""The caller's network is never changed, whatever it does in its forward."""

import copy

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import ModelError
from tests.network.wild_nets import WILD, Base, model_of, same, state

R = {"steps": 2, "size": 16, "progress": False}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", WILD)
def test_a_network_is_the_same_after_everything(name: str, mode: str) -> None:
    torch.manual_seed(0)
    net = WILD[name]().train(mode == "train")
    before = state(net)
    model = fv.wrap(net, size=16)
    names = [row.name for row in fv.layers(model)]
    site = next(iter(fv.gates(model)), None)  # of an observed network none can be patched in
    last = next(n for n in reversed(names) if n in ("head", "second"))
    fv.render(model, f"[{last}:1, -{last}:2]", **R)
    fv.evaluate(model, f"{last}:1", torch.rand(2, 3, 16, 16), draws=2)
    if site is not None:
        fv.render(model, f"gate:{site}:3", **R)
        with fv.clamp(model, site, 0.5):
            fv.evaluate(model, f"{last}:1", torch.rand(2, 3, 16, 16), draws=2)
        fv.lab.GateStatistics.measure(model, torch.rand(4, 3, 16, 16))
    after = state(net)
    assert [k for k in before if k not in after or not same(before[k], after[k])] == []
    assert before.keys() == after.keys()


@pytest.mark.parametrize("name", sorted(WILD.keys() - {"counter", "data parallel"}))
def test_the_copy_computes_what_the_network_does(name: str) -> None:
    net, model = model_of(name)
    x = torch.rand(1, 3, 16, 16)
    expected = copy.deepcopy(net).eval()(x) if name in ("plain", "traced") else None
    given = model(x, ["output"])["output"]
    again = model(x, ["output"])["output"]
    assert torch.equal(given, again)
    assert expected is None or torch.allclose(given, expected, atol=1e-6)


def test_weights_are_shared_and_followed() -> None:
    net, model = model_of("plain")
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        net.conv.weight.mul_(2)
        net.bn.running_mean.add_(1)
        net.bn.running_var.mul_(3)
    for _ in range(2):
        assert torch.allclose(model(x, ["output"])["output"], net.eval()(x), atol=1e-6)
        _ = fv.gates(model)  # a second copy, which was patched, follows too
        with torch.no_grad():
            net.bn.running_mean.sub_(0.5)


class CopiesAsItself(Base):
    def __deepcopy__(self, memo: dict[int, object]) -> "CopiesAsItself":
        return self


class HoldsOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = CopiesAsItself()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize("make", [CopiesAsItself, HoldsOne, lambda: nn.Sequential(HoldsOne())])
def test_a_network_that_copies_as_itself_is_refused(make: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match=r"CopiesAsItself cannot be copied.*remove CopiesAsItself.__deepcopy__"):
        fv.wrap(make())


class Refuses(Base):
    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("no copies of me")


def test_a_network_that_refuses_says_why() -> None:
    with pytest.raises(ModelError, match="Refuses cannot be copied: TypeError: no copies of me"):
        fv.wrap(Refuses())


OWN = Base()


class Global(Base):
    """Runs a module that the module file holds, and that is its own too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = OWN.conv, OWN.bn

    def stem(self, x: Tensor) -> Tensor:
        return OWN.bn(OWN.conv(x))


@pytest.mark.parametrize("use", ["through a global name", "in forward_fn", "in forward_fn, a part"])
def test_a_forward_that_runs_the_callers_modules_is_refused(use: str) -> None:
    net = (Global() if "global" in use else Base()).train()
    functions = {
        "through a global name": None, "in forward_fn": lambda _, x: net(x),
        "in forward_fn, a part": lambda twin, x: twin.head(net.bn(twin.conv(x))),
    }  # fmt: skip
    before = state(net)
    with pytest.raises(ModelError, match=r"not those of the copy.*its first argument"):
        fv.render(fv.wrap(net, size=16, forward_fn=functions[use]), "head:1", **R)
    assert all(same(before[k], v) for k, v in state(net).items())


LAZY = {
    "convolution": lambda: nn.Sequential(nn.LazyConv2d(8, 3)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d()),
    "deep": lambda: nn.Sequential(nn.Sequential(nn.ReLU(), nn.LazyConv2d(2, 1))),
    "instance norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyInstanceNorm2d(affine=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_network_is_asked_to_run_once(name: str) -> None:
    net = LAZY[name]()
    with pytest.raises(ModelError, match="has no shape yet; run the network once"):
        fv.wrap(net)
    net(torch.rand(2, 3, 8, 8))
    fv.wrap(net)
