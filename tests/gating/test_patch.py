"""Patches in unusual networks: a replaced call counts, passes gradients and is copied like the original call."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import featureviz as fv
from tests.forms import ALL, SIZE, build_net, by_mlp, functional, randomize
from tests.gated import C, Functional, GaussianInPlace
from tests.host_traffic import HostTraffic


class Nested(nn.Module):
    """Inner blocks call the same functions before the module's own gate."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([functional(_more)(), functional(_less)(), GaussianInPlace()])
        self.fc = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.inner:
            x = block(x)
        x = torch.sigmoid(x).mul(torch.mul(x, 2))
        x = x * torch.sigmoid(self.fc(x.mean((2, 3))))[..., None, None]
        return torch.mul(x, 0.5)


def _more(x: Tensor, z: Tensor) -> Tensor:
    y = x + torch.sigmoid(x)
    y *= z.sigmoid_()
    return torch.mul(y, 2)


def _less(x: Tensor, z: Tensor) -> Tensor:
    return 1 + torch.mul(x, torch.sigmoid(z))


def test_calls_are_counted_through_patched_inner_blocks() -> None:
    torch.manual_seed(0)
    net = build_net(randomize(Nested())).eval()
    model = fv.wrap(net, size=SIZE)
    assert list(fv.gates(model)) == ["2.inner.0", "2.inner.1", "2.inner.2", "2"]
    x = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)  # another batch size than in discovery
    for site in model.gates:
        a = model(x, [f"pregate:{site}", f"gate value:{site}", f"gated:{site}"])
        before, value, after = a[f"pregate:{site}"], a[f"gate value:{site}"], a[f"gated:{site}"]
        torch.testing.assert_close(before * value[..., None, None], after)
    assert torch.equal(model.net(x), net(x))
    ours, own = (torch.autograd.grad(n(x).square().sum(), x)[0] for n in (model.net, net))
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    with fv.clamp(model, "2", 0.0):
        assert model.isolated().net[2](torch.rand(1, C, SIZE, SIZE)).abs().max() == 0
    assert torch.equal(model.net(x), net(x))


def test_calls_before_the_network_are_not_counted() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(build_net(randomize(ALL["torch.sigmoid"].make())), nn.Conv2d(8, 3, 1))
    for root in (net, randomize(functional(lambda x, z: x * torch.sigmoid(z))())):
        channels = 3 if root is net else C
        model = fv.wrap(
            root,
            size=SIZE,
            channels=channels,
            forward_fn=lambda n, x: n(torch.sigmoid(x) * torch.sigmoid(x.mean(1, True))),
        )
        (site,) = fv.gates(model).values()
        assert site.found == "functional"


@pytest.mark.parametrize("name", ["torchvision", "tutorial", "torch.sigmoid", "Gaussian", "two"])
def test_the_network_may_be_the_block_itself(name: str) -> None:
    torch.manual_seed(0)
    form = ALL[name]
    block = randomize(form.make()).eval()
    model = fv.wrap(block, size=SIZE, channels=C)
    assert [site.kind for site in fv.gates(model).values()] == form.kinds
    images = torch.randn(3, C, SIZE, SIZE)
    a = model(images, [f"gate value:{site}" for site in model.gates])
    for site, gates in zip(model.gates, form.gates(block, images), strict=True):
        torch.testing.assert_close(a[f"gate value:{site}"], gates)


class Twice(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.a, self.block = nn.Conv2d(C, C, 1), block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.a(self.block(x)))


@pytest.mark.parametrize("name", ["torchvision", "tutorial", "torch.sigmoid", "Gaussian", "relu6(z + 3) / 6"])
def test_a_block_that_runs_twice_is_found_and_ambiguous(name: str) -> None:
    torch.manual_seed(0)
    model = fv.wrap(build_net(Twice(randomize(ALL[name].make()))), size=SIZE)
    (site,) = fv.gates(model).values()
    assert site.calls == 2
    assert site.found.endswith(ALL[name].found)
    with pytest.raises(fv.FeaturevizError, match="2 times"):
        model(torch.rand(1, 3, SIZE, SIZE), [f"gate:{site.name}"])


def test_blocks_that_share_a_sigmoid_have_separate_gates() -> None:
    torch.manual_seed(0)
    shared = nn.Sigmoid()
    blocks = [randomize(torchvision.ops.SqueezeExcitation(C, 4, scale_activation=lambda: shared)) for _ in range(2)]
    net = build_net(nn.Sequential(*blocks)).eval()
    model = fv.wrap(net, size=SIZE)
    assert len(fv.gates(model)) == 2
    images = torch.rand(3, 3, SIZE, SIZE)
    a = model(images, [f"gate value:{site}" for site in model.gates])
    with torch.no_grad():
        x = net[1](net[0](images))
        (first,) = by_mlp()(blocks[0], x)
        (second,) = by_mlp()(blocks[1], blocks[0](x))
    for site, gates in zip(model.gates, (first, second), strict=True):
        torch.testing.assert_close(a[f"gate value:{site}"], gates)


class Multiply(nn.Module):
    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x * g


class Graph(nn.Module):
    """As converters write networks: every step is a module, the multiplication too."""

    def __init__(self, content_first: bool) -> None:
        super().__init__()
        self.content_first = content_first
        self.pool, self.fc1, self.relu = nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C // 4, 1), nn.ReLU()
        self.fc2, self.sigmoid, self.multiply = nn.Conv2d(C // 4, C, 1), nn.Sigmoid(), Multiply()
        self.project = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.sigmoid(self.fc2(self.relu(self.fc1(self.pool(x)))))
        return self.project(self.multiply(x, s)) if self.content_first else self.project(self.multiply(s, x))


@pytest.mark.parametrize("content_first", [True, False])
def test_gates_between_modules(content_first: bool) -> None:
    torch.manual_seed(0)
    net = build_net(randomize(Graph(content_first))).eval()
    model, images = fv.wrap(net, size=SIZE), torch.rand(2, 3, SIZE, SIZE)
    (site,) = fv.gates(model).values()
    assert (site.name, site.kind, site.gate, site.found) == ("2.multiply", "SE", "2.sigmoid", "functional")
    value = model(images, ["gate value:2.multiply"])["gate value:2.multiply"]
    torch.testing.assert_close(value, by_mlp()(net[2], net[1](net[0](images)))[0])


def test_traced_networks_keep_their_gates_when_copied() -> None:
    torch.manual_seed(0)
    traced = torch.fx.symbolic_trace(build_net(randomize(ALL["torch.sigmoid"].make())).eval())
    model, images = fv.wrap(traced, size=SIZE), torch.rand(2, 3, SIZE, SIZE)
    (site,) = fv.gates(model).values()
    assert site.kind == "SE"
    name = f"gate value:{site.name}"
    twin = copy.deepcopy(model)  # as a move to another device does
    assert torch.equal(twin(images, [name])[name], model(images, [name])[name])
    assert torch.equal(model.net(images), traced(images))
    assert isinstance(traced, torch.fx.GraphModule)


class Iterates(Functional):
    """Runs all of its children."""

    def forward(self, x: Tensor) -> Tensor:
        s = x.mean((2, 3), keepdim=True)
        for child in self.children():
            s = child(s)
        return x * torch.sigmoid(s)


def test_patches_are_undone_if_the_network_runs_the_added_modules() -> None:
    torch.manual_seed(0)
    net = build_net(randomize(Iterates(lambda x, z: x))).eval()
    model, images = fv.wrap(net, size=SIZE), torch.rand(2, 3, SIZE, SIZE)
    assert all(site.found != "functional" for site in fv.gates(model).values())
    assert torch.equal(model.net(images), net(images))


@pytest.mark.parametrize("name", ["torchvision", "tutorial", "torch.sigmoid", "Gaussian"])
def test_gates_of_a_branch_that_starts_at_zero(name: str) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(C)
    nn.init.zeros_(norm.weight)
    net = build_net(nn.Sequential(norm, randomize(ALL[name].make()))).eval()
    model, images = fv.wrap(net, size=SIZE), torch.rand(2, 3, SIZE, SIZE)
    (site,) = fv.gates(model).values()
    assert (site.kind, site.found.endswith(ALL[name].found)) == (ALL[name].kinds[0], True)
    assert not norm.weight.any()
    assert model.net.get_parameter("2.0.weight").data_ptr() == norm.weight.data_ptr()
    assert torch.equal(model.net(images), net(images))


def test_discovery_can_be_repeated() -> None:
    from featureviz.gating.discovery import discover

    torch.manual_seed(0)
    model = fv.wrap(nn.Sequential(build_net(ALL["two"].make()), nn.Conv2d(8, C, 1), ALL["Gaussian"].make()), size=SIZE)
    assert repr(discover(model)) == repr(fv.gates(model)) == repr(discover(model))
    assert len(fv.gates(model)) == 3


@pytest.mark.parametrize("name", ["torch.sigmoid", "x *= z.sigmoid_()", "clamp in place", "Gaussian", "two"])
def test_patches_do_not_synchronise_with_the_device(name: str) -> None:
    torch.manual_seed(0)
    model = fv.wrap(build_net(randomize(ALL[name].make())), size=SIZE)
    images = torch.rand(2, 3, SIZE, SIZE)
    assert len(fv.gates(model)) > 0
    with HostTraffic() as found:
        model.net(images)
    assert found == []


def test_redirected_gradients_reach_patched_functions() -> None:
    torch.manual_seed(0)
    block = functional(lambda x, z: x * F.hardsigmoid(z))()
    nn.init.constant_(block.fc2.bias, -100.0)  # shut
    model, images = fv.wrap(build_net(block), size=SIZE), torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    (name,) = fv.gates(model)

    def slope() -> Tensor:
        value = model(images, [f"gate value:{name}"])[f"gate value:{name}"]
        return torch.autograd.grad(-value.sum(), images)[0].abs().sum()

    assert slope() == 0
    with fv.redirected(model):
        assert slope() > 0


@pytest.mark.parametrize(
    "name", ["torch.sigmoid", "F.hardsigmoid", "relu6(z + 3) / 6", "Gaussian", "Gaussian in place"]
)
def test_patched_gates_can_be_clamped(name: str) -> None:
    torch.manual_seed(0)
    net = build_net(randomize(ALL[name].make())).eval()
    model, images = fv.wrap(net, size=SIZE), torch.rand(2, 3, SIZE, SIZE)
    (site,) = fv.gates(model)
    with fv.clamp(model, site, 0.25), torch.no_grad():
        clamped = model.isolated().net(images)
        torch.testing.assert_close(clamped, net[3](0.25 * net[1](net[0](images))), rtol=1e-5, atol=1e-5)
    assert torch.equal(model.net(images), net(images))
