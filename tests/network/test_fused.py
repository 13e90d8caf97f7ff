"""The lean copy: the same activations and gradients with the batch norms gone, and nobody's network changed."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.models.googlenet import BasicConv2d, Inception

import featureviz as fv
from featureviz.ascent.ascent import Ascent
from featureviz.errors import ModelError
from featureviz.image import FourierImage
from featureviz.network.execution.executor import Executor
from featureviz.network.execution.fused import CONVOLUTIONS, NORMS, folded
from featureviz.network.execution.fused_copies import in_float64
from featureviz.network.redirect import redirected
from tests import forms
from tests.conftest import TinySE
from tests.network.test_model import same, state_of

models = torchvision.models


def drawn(net: nn.Module) -> nn.Module:
    """Statistics and affine maps that a fold cannot get right by chance."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, NORMS) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.6, 1.4)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def wrapped(net: nn.Module, size: int = 12, **kwargs: Any) -> fv.TappedModel:
    return fv.wrap(drawn(net), mean=0.4, std=0.3, size=size, **kwargs)


def norms(model: fv.TappedModel) -> int:
    return sum(isinstance(m, NORMS) for m in model.net.modules())


def lean(model: fv.TappedModel, *layers: str, size: int = 12) -> fv.TappedModel:
    return Executor(model, layers).network((size, size))


def agree(model: fv.TappedModel, layers: Sequence[str], size: int = 12, n: int = 2) -> fv.TappedModel:
    """Activations and gradients in the input are the model's to 1e-4 of the largest; the lean copy."""
    torch.manual_seed(2)
    x, executor = torch.rand(n, model.channels, size, size), Executor(model, layers)
    slopes = []
    taken = [run(x.requires_grad_()) for run in (lambda x: model(x, layers), executor)]
    way = [torch.randn(taken[0][name].shape) for name in layers]
    for name in layers:
        a, b = (t[name].float() for t in taken)
        assert b.dtype == torch.float32
        assert a.abs().max() > 0
        assert (a - b).abs().max() <= 1e-4 * a.abs().max(), name
    for t in taken:
        total = sum((t[name].float() * w).sum() / w.numel() for name, w in zip(layers, way, strict=True))
        assert isinstance(total, Tensor)
        slopes.append(torch.autograd.grad(total, x)[0])
    assert slopes[0].any()
    assert (slopes[0] - slopes[1]).norm() <= 1e-4 * slopes[0].norm()
    return executor.network((size, size))


def one_of_each_kind(model: fv.TappedModel) -> list[str]:
    kinds: dict[str, str] = {}
    for layer in model.layers():
        if layer.calls == 1 and not layer.gives and layer.type != "Dropout":
            kinds.setdefault(layer.type, layer.name)
    return list(kinds.values())


def small(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=10)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # network, size, batch norms left
    "timm mobilenetv3": (small("mobilenetv3_small_050"), 32, 0),
    "timm efficientnet": (small("test_efficientnet"), 48, 0),
    "timm regnet": (small("regnety_002"), 32, 0),
    "resnet": (lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=10), 32, 0),
    "regnet": (
        lambda: models.RegNet(models.regnet.BlockParams([1, 2], [16, 32], [8, 8], [1, 1], [2, 2], 0.25), 10), 32, 0
    ),
    "mnasnet": (lambda: models.mnasnet0_5(num_classes=10), 32, 0),
    "googlenet": (
        lambda: nn.Sequential(
            BasicConv2d(3, 16, kernel_size=3, stride=2),
            Inception(16, 8, 8, 16, 4, 8, 8),
        ),
        32, 0,
    ),
    "inception": (
        lambda: nn.Sequential(models.inception.BasicConv2d(3, 16, kernel_size=3), models.inception.InceptionA(16, 8)),
        32, 0,
    ),
    "shufflenet": (lambda: models.shufflenet_v2_x0_5(num_classes=10), 48, 0),
    # Where a norm comes before the convolution it reads a concatenation: 4 layers, 3 transitions, norm5.
    "densenet": (lambda: models.DenseNet(8, (1, 1, 1, 1), 16, num_classes=10), 48, 4 + 3 + 1),
    "convnext": (
        lambda: models.ConvNeXt([models.convnext.CNBlockConfig(16, 32, 1), models.convnext.CNBlockConfig(32, None, 1)]),
        48, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_real_networks_without_their_batch_norms(name: str) -> None:
    make, size, left = FAMILIES[name]
    net = drawn(make())
    exact = wrapped(copy.deepcopy(net).double(), size)  # in float32 one ReLU or maximum may go another way
    whole = agree(exact, ["output"], size)
    assert whole is not exact
    assert norms(whole) == left
    layers = one_of_each_kind(exact)
    assert agree(exact, layers, size) is not exact
    gates = [f"{kind}:{site}" for site in list(exact.gates)[:2] for kind in ("gate", "gate value", "gated")]
    assert not gates or agree(exact, gates, size) is not exact
    model, x = wrapped(net, size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        mine, theirs = model(x, layers), Executor(model, layers)(x)
    assert lean(model, *layers, size=size) is not model
    assert all((mine[n] - theirs[n]).abs().max() <= 1e-4 * mine[n].abs().max() for n in layers)


class Written(nn.Module):
    """A forward in one line, over two convolutions, two norms and what else is given."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2, self.act = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class OwnActivation(nn.BatchNorm2d):
    """Has a ``drop`` and an ``act``, but not timm's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = 0.1, nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


def parallel(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    return a(x) + b(x)


def added_to(m: Any, x: Tensor) -> Tensor:
    c = m.conv(x)
    c += 1
    return m.bn(c)


def straight(m: Any, x: Tensor) -> Tensor:
    return m.act(m.bn(m.conv(x)))


REFUSED: dict[str, Written] = {  # at most the second norm may go
    "read elsewhere": Written(lambda m, x: parallel(m.conv(x), m.bn, nn.Identity())),
    "shared by two norms": Written(lambda m, x: parallel(m.conv(x), m.bn, m.bn2)),
    "changed in place between": Written(added_to),
    "activated in place between": Written(lambda m, x: m.bn(m.act(m.conv(x)))),
    "norm used twice": Written(lambda m, x: m.bn(m.conv2(m.bn(m.conv(x))))),
    "convolution used twice": Written(lambda m, x: m.bn(m.conv2(m.conv2(m.conv(x))))),
    "transposed": Written(straight, conv=nn.ConvTranspose2d(3, 8, 3)),
    "own activation": Written(straight, bn=OwnActivation(8)),
    "batch's own statistics": Written(straight, bn=nn.BatchNorm2d(8, track_running_stats=False)),
    "weight norm": Written(straight, conv=parametrizations.weight_norm(nn.Conv2d(3, 8, 3))),
    "spectral norm": Written(straight, conv=parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))),
    "orthogonal": Written(straight, conv=parametrizations.orthogonal(nn.Conv2d(3, 8, 3))),
    "other order": Written(lambda m, x: m.conv(m.norm(x)), norm=nn.BatchNorm2d(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_is_not(name: str) -> None:
    model = wrapped(copy.deepcopy(REFUSED[name]))
    network = agree(model, ["output"])
    assert norms(network) == norms(model)


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "bias": lambda: Written(straight),
    "no bias": lambda: Written(straight, conv=nn.Conv2d(3, 8, 3, bias=False)),
    "no affine": lambda: Written(straight, bn=nn.BatchNorm2d(8, affine=False)),
    "depthwise": lambda: Written(lambda m, x: m.bn(m.conv2(m.act(m.conv(x)))), conv2=nn.Conv2d(8, 8, 3, groups=8)),
    "groups": lambda: Written(lambda m, x: m.bn(m.conv2(m.act(m.conv(x)))), conv2=nn.Conv2d(8, 8, 3, groups=4)),
    "reflected edge": lambda: Written(straight, conv=nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")),
    "Conv1d": lambda: Written(lambda m, x: straight(m, x.flatten(2)), conv=nn.Conv1d(3, 8, 3), bn=nn.BatchNorm1d(8)),
    "Conv3d": lambda: Written(
        lambda m, x: straight(m, x[:, :, None]), conv=nn.Conv3d(3, 8, (1, 3, 3)), bn=nn.BatchNorm3d(8)
    ),
    "float64": lambda: Written(straight).double(),
    "views of the maps": lambda: Written(lambda m, x: m.bn(m.conv(x)).view(len(x), -1)),
    "views across rows": lambda: Written(lambda m, x: m.bn(m.conv(x)).view(len(x) * 2, 4, -1).relu().view(len(x), -1)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_one_convolution_and_its_norm(name: str) -> None:
    model = wrapped(FOLDED[name]())
    network = agree(model, ["output"], n=3)
    assert isinstance(network.net, Written)
    assert isinstance(network.net.bn, nn.Identity)


def test_a_norm_after_a_linear_layer_is_left_alone() -> None:
    parts = {"fc": nn.Linear(8, 6), "last": nn.BatchNorm1d(6)}
    model = wrapped(Written(lambda m, x: m.last(m.fc(m.bn(m.conv(x)).mean((2, 3)))), **parts))
    network = agree(model, ["output"])
    assert [type(network.net.get_submodule(n)) for n in ("bn", "last")] == [nn.Identity, nn.BatchNorm1d]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_in_half_precision_run_as_before(dtype: torch.dtype) -> None:
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))).to(dtype))
    x = torch.rand(2, 3, 12, 12)
    mine, theirs = model(x, ["bn2"])["bn2"], Executor(model, ["bn2"])(x)["bn2"]
    assert theirs.dtype == torch.float32
    assert (mine.float() - theirs).abs().max() <= 1e-4 * mine.abs().max()


def test_taps_find_what_they_name() -> None:
    """A tapped convolution gives its own output, a tapped norm the norm's: only the other pair is folded."""
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    for layers, gone in ((["conv"], 0), (["bn"], 1), (["conv2"], 1), (["conv", "output"], 1), (["act", "bn2"], 2)):
        assert norms(agree(model, layers)) == 2 - gone, layers


@pytest.mark.parametrize(
    ("layers", "overwrites"),
    [(["bn2"], True), (["conv", "bn2"], True), (["bn", "bn2"], False), (["act", "bn2"], False), (["act"], False)],
)
def test_a_relu_that_was_in_place_is_so_again_unless_it_overwrites_a_tap(layers: list[str], overwrites: bool) -> None:
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    act: Any = agree(model, layers).net.get_submodule("act")
    assert act.inplace is overwrites
    own: Any = model.net.get_submodule("act")
    assert own.inplace is False


def test_nothing_else_is_in_place() -> None:
    """Neither what never was, nor an activation that autograd would keep a copy for."""
    for act in (nn.ReLU(), nn.Hardswish(inplace=True)):
        model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x))), act=act))
        assert not any(getattr(m, "inplace", False) for m in agree(model, ["bn2"]).net.modules())


def test_a_network_that_overwrites_what_its_gradient_needs() -> None:
    """In place it runs but has no gradient; without it has one, and so has its lean copy, which folds nothing then."""
    net = Written(lambda m, x: m.bn2(m.conv2(m.act(m.bn(m.conv(x)).sigmoid()))))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        drawn(net)(torch.rand(1, 3, 12, 12)).sum().backward()
    network = agree(wrapped(net), ["bn2"])
    assert not any(getattr(m, "inplace", False) for m in network.net.modules())


@pytest.mark.parametrize("act", [nn.ReLU(inplace=True), nn.ReLU6(inplace=True)])
def test_a_redirected_gradient_of_a_network_in_place(act: nn.Module) -> None:
    net = Written(lambda m, x: m.bn2(m.conv2(straight(m, x))), act=act)
    model = wrapped(net)
    nn.init.constant_(net.bn.bias, -100)  # every unit is dead, in the model too, which shares the weights
    network: Any = lean(model, "bn2")
    assert network.net.act.inplace
    x, way, slopes = torch.rand(2, 3, 12, 12, requires_grad=True), torch.randn(2, 8, 6, 6), []
    for side in (model, network):
        with redirected(side):
            slopes.append(torch.autograd.grad((side(x, ["bn2"])["bn2"] * way).sum(), x)[0])
    assert slopes[0].any()
    assert (slopes[0] - slopes[1]).norm() <= 1e-4 * slopes[0].norm()


def test_timms_activation_stays_under_its_name() -> None:
    model = wrapped(timm.create_model("mobilenetv3_small_050", num_classes=4), 64)
    network = agree(model, ["bn1.act", "blocks.0.0.bn1", "blocks.1.0.bn2.act"], 64)
    assert isinstance(network.net.get_submodule("bn1"), nn.Sequential)
    assert norms(network) < norms(model)


def test_a_copy_made_for_some_layers_or_a_size_is_not_trusted_with_others() -> None:
    """The head takes maps of one layout and one size only."""
    head = {"head": nn.Linear(8 * 36, 5)}
    model = wrapped(Written(lambda m, x: m.head(straight(m, x).view(len(x), -1)[:, : 8 * 36]), **head))
    agree(model, ["act"])
    agree(model, ["act", "output"])
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(m.bn(m.conv(x)))) if len(x[0, 0]) > 8 else m.bn(m.conv(x))))
    agree(model, ["output"], 8)
    agree(model, ["output"], 12)


def test_a_network_for_one_image_at_a_time() -> None:
    model = wrapped(Written(lambda m, x: straight(m, x.view(1, 3, 12, 12))))
    assert norms(agree(model, ["act"], n=1)) == norms(model) - 1


def test_maps_of_zeros_prove_nothing() -> None:
    """On noise the layer is dead, so a wrong fold would look right; on a bright image it lives."""
    bright = wrapped(Written(lambda m, x: (parallel(m.conv(x), m.bn, nn.Identity()).abs() - 30).relu()))
    x = torch.full((2, 3, 12, 12), 40.0)
    mine, theirs = bright(x, ["output"])["output"], Executor(bright, ["output"])(x)["output"]
    assert mine.any()
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["tutorial", "torch.sigmoid", "x *= z.sigmoid_()", "two", "GCT", "Gaussian in place"])
def test_gates_of_every_kind(name: str) -> None:
    """Also those that discovery reroutes on the private copy: before the lean copy is made, and after."""
    torch.manual_seed(0)
    block = forms.FORMS[name].make()
    net = nn.Sequential(forms.head(), nn.BatchNorm2d(forms.C), block, nn.Conv2d(forms.C, 8, 3), nn.BatchNorm2d(8))
    model = wrapped(net, 20)
    agree(model, ["4"], 20)
    before = lean(model, "4", size=20)
    read = [f"{kind}:{site.name}" for site in model.gates.values() for kind in ("gate value", "gated")]
    assert lean(model, "4", size=20) is not before  # the private copy is another one now
    assert norms(agree(model, ["4"], 20)) == 0
    agree(model, read, 20)
    with torch.no_grad():
        Executor(wrapped(net, 20), ["4"], precision="bfloat16")(torch.rand(2, 3, 20, 20))


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
            Executor(model, ["conv", "output"], precision=precision)(torch.rand(2, 3, 12, 12))
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
    first = Executor(model, ["output"])(x)["output"]
    with torch.no_grad():
        CHANGES[how](parameter)
    second, mine = Executor(model, ["output"])(x)["output"], model(x, ["output"])["output"]
    assert (first - mine).abs().max() > 1e-3
    torch.testing.assert_close(second, mine)


def test_weights_that_change_within_an_ascent_are_seen() -> None:
    net = drawn(TinySE())
    model, x = fv.wrap(net, size=12), torch.rand(2, 3, 12, 12)
    executor = Executor(model, ["output"])
    for change in (lambda: net.load_state_dict(drawn(TinySE()).state_dict()), lambda: net.train()(x), lambda: None):
        change()
        torch.testing.assert_close(executor(x)["output"], model(x, ["output"])["output"])


def test_interventions_act_on_an_ascent_made_before_them() -> None:
    model = wrapped(TinySE())
    x, _ = torch.rand(2, 3, 12, 12), model.gates  # discovered now, so that the copy made next stays
    executor = Executor(model, ["conv"])
    free = executor(x)["conv"]
    copy_ = executor.network((12, 12))
    assert copy_ is not model
    with fv.clamp(model, "se", 0.5):
        assert executor.network((12, 12)) is model
        held = executor(x)["conv"]
        assert torch.equal(held, model(x, ["conv"])["conv"])
        inside = Executor(model, ["conv"])  # made inside, used outside
        assert torch.equal(inside(x)["conv"], held)
    assert (held - free).abs().max() > 1e-2
    assert executor.network((12, 12)) is copy_
    for after in (executor, inside):
        assert torch.equal(after(x)["conv"], free)
    climbing = [Ascent(model, fv.Channel("conv", 1), FourierImage(1, 12, seed=0), capacity=3) for _ in range(2)]
    for ascent in climbing:
        ascent.run(1)
    with fv.clamp(model, "se", 0.0):
        climbing[0].run(1)
    climbing[1].run(1)
    assert not torch.equal(climbing[0].scores[1], climbing[1].scores[1])


def test_backward_hooks_on_the_private_copy_count() -> None:
    model, x = wrapped(TinySE()), torch.rand(1, 3, 12, 12, requires_grad=True)
    executor = Executor(model, ["conv"])
    executor(x)
    handle = model.net.get_submodule("stem").register_full_backward_hook(lambda _m, grads, _out: (grads[0] * 0,))
    hidden = torch.autograd.grad(executor(x)["conv"].sum(), x)[0]
    handle.remove()
    assert not hidden.any()
    assert torch.autograd.grad(executor(x)["conv"].sum(), x)[0].any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_model_makes_its_own_lean_copies(duplicate: Callable[[fv.TappedModel], fv.TappedModel]) -> None:
    """A copy counts its weights' versions anew: as many changes later, an inherited lean copy would look right."""
    model, x = fv.wrap(drawn(TinySE()), size=12), torch.rand(2, 3, 12, 12)
    Executor(model, ["output"])(x)
    Executor(model, ["input", "conv"])(x)
    plain = len(pickle.dumps(fv.wrap(drawn(TinySE()), size=12)))
    twin = duplicate(model)
    assert len(pickle.dumps(model)) < 1.5 * plain
    executor = Executor(twin, ["output"])
    for _ in range(80):
        with torch.no_grad():
            next(twin.net.parameters()).mul_(1.02)
        torch.testing.assert_close(executor(x)["output"], twin(x, ["output"])["output"])
    agree(model, ["output"])


def test_a_model_that_is_moved_or_cast_leaves_its_lean_copies_behind() -> None:
    model, x = wrapped(Written(straight)), torch.rand(2, 3, 12, 12)
    Executor(model, ["bn"])(x)
    moved = model.on("meta")
    assert all(t.device.type == "meta" for t in moved.state_dict().values())
    assert norms(lean(model, "bn")) == norms(model) - 1
    executor = Executor(model, ["bn"])
    executor(x)
    model.half()
    assert torch.equal(executor(x)["bn"], model(x, ["bn"])["bn"].float())


def test_an_entrance_that_cannot_be_copied() -> None:
    class Entrance:
        def __init__(self) -> None:
            self.lock, self.entered = threading.Lock(), 0

        def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
            self.entered += 1
            return net(x * 2)

    for entrance in (Entrance(), Entrance().__call__):
        model = wrapped(Written(straight), forward_fn=entrance)
        assert norms(agree(model, ["bn"])) == norms(model) - 1


class Entering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x * self.gain)


def test_an_entrance_that_is_a_module() -> None:
    model = wrapped(Written(straight), forward_fn=Entering())
    agree(model, ["bn"])
    assert isinstance(model.forward_fn, Entering)
    with torch.no_grad():
        model.forward_fn.gain.mul_(3)
    agree(model, ["bn"])


def test_a_network_that_remembers_a_tensor() -> None:
    """It cannot be copied a second time, and is run as it is."""

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
    executor = Executor(wrapped(net), ["output"])
    first = executor.network((12, 12))
    executor(torch.rand(1, 3, 12, 12))
    assert executor.network((12, 12)) is first


def test_lean_copies_do_not_pile_up() -> None:
    """A gallery of every layer must not hold a network a layer."""
    net = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)) for _ in range(20)))
    model = wrapped(net)
    made = [weakref.ref(lean(model, f"{i}.1")) for i in range(20)]
    gc.collect()
    assert sum(twin() is not None for twin in made) <= 10


def test_folded_alone() -> None:
    """The function: paths stay, weights that do not change are shared, and those read are left."""
    net = drawn(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    x = torch.rand(2, 3, 12, 12)
    twin = folded(net, lambda: net(x), {"conv2"})
    assert [n for n, _ in twin.named_modules()] == [n for n, _ in net.named_modules()]
    assert isinstance(twin.get_submodule("bn"), nn.Identity)
    assert twin.get_buffer("bn2.running_mean").data_ptr() == net.get_buffer("bn2.running_mean").data_ptr()
    assert twin.get_parameter("conv2.weight").is_contiguous(memory_format=torch.channels_last)
    conv, norm = (net.get_submodule(n) for n in ("conv", "bn"))
    assert isinstance(conv, CONVOLUTIONS)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(twin.get_parameter("conv.weight"), conv.weight * gain[:, None, None, None])
    assert conv.bias is not None
    torch.testing.assert_close(twin.get_parameter("conv.bias"), (conv.bias - norm.running_mean) * gain + norm.bias)
    assert not any(p.requires_grad for p in twin.parameters())
    torch.testing.assert_close(twin(x), net(x))
    with pytest.raises(ModelError, match="stopped"):
        folded(net, _stop, ())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def _stop() -> None:
    raise ModelError("stopped")


def test_a_copy_in_float64_is_the_same_network(embedded: fv.TappedModel) -> None:
    twin, x = in_float64(embedded), embedded.noise_images(2)
    a, b = (model(x, ["features.9", "output"]) for model in (embedded, twin))
    assert all(b[name].dtype == torch.float64 for name in b)
    assert all(torch.allclose(a[name], b[name].float(), rtol=1e-4, atol=1e-4) for name in b)
    assert embedded(x, ["features.9"])["features.9"].dtype == torch.float32
