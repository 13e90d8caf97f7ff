"""Fused copies: the same activations and gradients without the batch norms, and nobody's network changed."""

import copy
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
from featureviz.errors import ModelError
from featureviz.network.copies.redirect import redirected
from featureviz.network.execution.executor import Executor
from featureviz.network.execution.fused import CONVOLUTIONS, NORMS, fuse
from featureviz.network.execution.fused_copies import FusedCopies, Prepared, in_float64
from tests import forms

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


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, NORMS) for m in net.modules())


def execute(model: fv.TappedModel, *layers: str, size: int = 12, **options: Any) -> Executor:
    return Executor(model, layers, (size, size), **options)


def prepared(model: fv.TappedModel, *layers: str, size: int = 12) -> Prepared:
    taps = model.taps(layers, (size, size))
    return model.cached(FusedCopies).prepared(layers, taps, (size, size), half=False)


def agree(model: fv.TappedModel, layers: Sequence[str], size: int = 12, n: int = 2) -> Executor:
    """Activations and gradients in the input are the model's to 1e-4 of the largest."""
    torch.manual_seed(2)
    x, executor = torch.rand(n, model.channels, size, size), execute(model, *layers, size=size)
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
    return executor


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
    assert whole.fused
    assert norms(whole.running.net) == left
    layers = one_of_each_kind(exact)
    assert agree(exact, layers, size).fused
    gates = [f"{kind}:{site}" for site in list(exact.gates)[:2] for kind in ("gate", "gate value", "gated")]
    assert not gates or agree(exact, gates, size).fused
    model, x = wrapped(net, size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        mine, theirs = model(x, layers), execute(model, *layers, size=size)(x)
    assert execute(model, *layers, size=size).fused
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
    network = agree(model, ["output"]).running.net
    assert norms(network) == norms(model.net)


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
    network = agree(model, ["output"], n=3).running.net
    assert isinstance(network, Written)
    assert isinstance(network.bn, nn.Identity)


def test_a_norm_after_a_linear_layer_is_left_alone() -> None:
    parts = {"fc": nn.Linear(8, 6), "last": nn.BatchNorm1d(6)}
    model = wrapped(Written(lambda m, x: m.last(m.fc(m.bn(m.conv(x)).mean((2, 3)))), **parts))
    network = agree(model, ["output"]).running
    assert [type(network.net.get_submodule(n)) for n in ("bn", "last")] == [nn.Identity, nn.BatchNorm1d]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_in_half_precision_run_as_before(dtype: torch.dtype) -> None:
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))).to(dtype))
    x = torch.rand(2, 3, 12, 12)
    mine, theirs = model(x, ["bn2"])["bn2"], execute(model, "bn2")(x)["bn2"]
    assert theirs.dtype == torch.float32
    assert (mine.float() - theirs).abs().max() <= 1e-4 * mine.abs().max()


def test_taps_find_what_they_name() -> None:
    """A tapped convolution gives its own output, a tapped norm the norm's: only the other pair is folded."""
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    for layers, gone in ((["conv"], 0), (["bn"], 1), (["conv2"], 1), (["conv", "output"], 1), (["act", "bn2"], 2)):
        assert norms(agree(model, layers).running.net) == 2 - gone, layers


@pytest.mark.parametrize(
    ("layers", "overwrites"),
    [(["bn2"], True), (["conv", "bn2"], True), (["bn", "bn2"], False), (["act", "bn2"], False), (["act"], False)],
)
def test_a_relu_that_was_in_place_is_so_again_unless_it_overwrites_a_tap(layers: list[str], overwrites: bool) -> None:
    model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    act: Any = agree(model, layers).running.net.get_submodule("act")
    assert act.inplace is overwrites
    own: Any = model.net.get_submodule("act")
    assert own.inplace is False


def test_nothing_else_is_in_place() -> None:
    """Neither what never was, nor an activation that autograd would keep a copy for."""
    for act in (nn.ReLU(), nn.Hardswish(inplace=True)):
        model = wrapped(Written(lambda m, x: m.bn2(m.conv2(straight(m, x))), act=act))
        assert not any(getattr(m, "inplace", False) for m in agree(model, ["bn2"]).running.net.modules())


def test_a_network_that_overwrites_what_its_gradient_needs() -> None:
    """In place it runs but has no gradient; without it has one, and so has its fused copy, which folds nothing then."""
    net = Written(lambda m, x: m.bn2(m.conv2(m.act(m.bn(m.conv(x)).sigmoid()))))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        drawn(net)(torch.rand(1, 3, 12, 12)).sum().backward()
    network = agree(wrapped(net), ["bn2"]).running.net
    assert not any(getattr(m, "inplace", False) for m in network.modules())


@pytest.mark.parametrize("act", [nn.ReLU(inplace=True), nn.ReLU6(inplace=True)])
def test_a_redirected_gradient_of_a_network_in_place(act: nn.Module) -> None:
    net = Written(lambda m, x: m.bn2(m.conv2(straight(m, x))), act=act)
    model = wrapped(net)
    nn.init.constant_(net.bn.bias, -100)  # every unit is dead, in the model too, which shares the weights
    executor = execute(model, "bn2")
    network: Any = executor.running.net
    assert network.act.inplace
    x, way, slopes = torch.rand(2, 3, 12, 12, requires_grad=True), torch.randn(2, 8, 6, 6), []
    for run in (lambda: model(x, ["bn2"]), lambda: executor(x)):
        with redirected(model):
            slopes.append(torch.autograd.grad((run()["bn2"] * way).sum(), x)[0])
    assert slopes[0].any()
    assert (slopes[0] - slopes[1]).norm() <= 1e-4 * slopes[0].norm()


def test_timms_activation_stays_under_its_name() -> None:
    model = wrapped(timm.create_model("mobilenetv3_small_050", num_classes=4), 64)
    network = agree(model, ["bn1.act", "blocks.0.0.bn1", "blocks.1.0.bn2.act"], 64).running.net
    assert isinstance(network.get_submodule("bn1"), nn.Sequential)
    assert norms(network) < norms(model.net)


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
    assert norms(agree(model, ["act"], n=1).running.net) == norms(model.net) - 1


def test_maps_of_zeros_prove_nothing() -> None:
    """On noise the layer is dead, so a wrong fold would look right; on a bright image it lives."""
    bright = wrapped(Written(lambda m, x: (parallel(m.conv(x), m.bn, nn.Identity()).abs() - 30).relu()))
    x = torch.full((2, 3, 12, 12), 40.0)
    mine, theirs = bright(x, ["output"])["output"], execute(bright, "output")(x)["output"]
    assert mine.any()
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["tutorial", "torch.sigmoid", "x *= z.sigmoid_()", "two", "GCT", "Gaussian in place"])
def test_gates_of_every_kind(name: str) -> None:
    """Also those that discovery reroutes on the private copy: before a fused copy is made, and after."""
    torch.manual_seed(0)
    block = forms.FORMS[name].make()
    net = nn.Sequential(forms.make_stem(), nn.BatchNorm2d(forms.C), block, nn.Conv2d(forms.C, 8, 3), nn.BatchNorm2d(8))
    model = wrapped(net, 20)
    agree(model, ["4"], 20)
    before = prepared(model, "4", size=20)
    read = [f"{kind}:{site.name}" for site in model.gates.values() for kind in ("gate value", "gated")]
    assert prepared(model, "4", size=20) is not before  # the private copy is another one now
    assert norms(agree(model, ["4"], 20).running.net) == 0
    agree(model, read, 20)
    with torch.no_grad():
        execute(wrapped(net, 20), "4", size=20, precision="bfloat16")(torch.rand(2, 3, 20, 20))


def test_fused_alone() -> None:
    """The function: paths stay, weights that do not change are shared, and those read are left."""
    net = drawn(Written(lambda m, x: m.bn2(m.conv2(straight(m, x)))))
    x = torch.rand(2, 3, 12, 12)
    twin = fuse(net, lambda copy: copy(x), {"conv2"})
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
        fuse(net, _stop, ())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def _stop(_net: nn.Module) -> None:
    raise ModelError("stopped")


def test_a_copy_in_float64_is_the_same_network(embedded: fv.TappedModel) -> None:
    x, layers = embedded.noise_images(2), ["features.9", "output"]
    taps = embedded.taps(layers, (96, 96))
    a, b = (running.read(x, taps) for running in (embedded.running, in_float64(embedded.running)))
    assert all(b[name].dtype == torch.float64 for name in b)
    assert all(torch.allclose(a[name], b[name].float(), rtol=1e-4, atol=1e-4) for name in b)
    assert embedded(x, ["features.9"])["features.9"].dtype == torch.float32
