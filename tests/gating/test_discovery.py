"""Discovery in many networks: every gate is found with its kind and values, and nothing else is."""

import copy
import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm import layers
from torch import Tensor, nn

import featureviz as fv
from featureviz.gating.verify import make_test_images, verify_sites
from featureviz.network.taps import Tap
from tests.forms import ALL, SIZE, Form, build_net, randomize
from tests.gated import C, GaussianInFloat


def state(net: nn.Module) -> dict[str, Any]:
    """The state of a network that wrapping and discovery must not change."""
    return {
        name: (type(m), m.training, {k: len(v) if isinstance(v, dict) else id(v) for k, v in vars(m).items()})
        for name, m in net.named_modules()
    } | {f"{n}=": (p.detach().clone().flatten().tolist(), p.requires_grad, p.grad) for n, p in net.named_parameters()}


@pytest.mark.parametrize("name", ALL)
def test_each_form_is_found_and_read_and_its_network_is_unchanged(name: str) -> None:
    torch.manual_seed(0)
    form = ALL[name]
    block = randomize(form.make())
    net = build_net(block).eval()
    before = state(net)
    model = fv.wrap(net, mean=0.5, std=0.5, size=SIZE)
    sites = fv.gates(model)
    assert [site.kind for site in sites.values()] == form.kinds
    assert all(site.found.endswith(form.found) for site in sites.values())
    assert all(site.error < 1e-6 for site in sites.values())
    images = torch.rand(3, 3, SIZE, SIZE)
    _check_values(model, block, form, images, net)
    _check_forward_and_gradient(model, net, images, exact="value only" not in form.found)
    assert state(net) == before


def _check_values(model: fv.TappedModel, block: nn.Module, form: Form, images: Tensor, net: nn.Sequential) -> None:
    names = [f"{what}:{site}" for site in model.gates for what in ("gate", "gate value", "pregate", "gated")]
    with torch.no_grad():
        a, twin = model(images, names), copy.deepcopy(model)(images, names)
        x = net[1](net[0]((images - 0.5) / 0.5))
        expected = form.gates(block, x)
    assert all(torch.equal(a[n], twin[n]) for n in names)
    for (name, site), gates in zip(model.gates.items(), expected, strict=True):
        value = a[f"gate value:{name}"]
        torch.testing.assert_close(value, gates, rtol=1e-5, atol=1e-6)
        assert gates.std(0).mean() > 1e-3  # constant gates would make the comparison meaningless
        torch.testing.assert_close(site.nonlinearity(a[f"gate:{name}"]), value)
        wide = value if site.spatial else value[..., None, None]
        torch.testing.assert_close(a[f"pregate:{name}"] * wide, a[f"gated:{name}"])


def _check_forward_and_gradient(model: fv.TappedModel, net: nn.Module, images: Tensor, exact: bool) -> None:
    """The output and the gradient of the private copy are those of the network."""
    x = ((images - 0.5) / 0.5).requires_grad_()
    mine, theirs = model.net(x), net(x)
    assert torch.equal(mine, theirs)
    ours, own = (torch.autograd.grad(y.square().sum(), x)[0] for y in (mine, theirs))
    assert own.abs().max() > 0
    if exact:
        assert torch.equal(ours, own)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- no gates
class Lambda(nn.Module):
    def __init__(self, forward: Callable[..., Tensor], *shape: int) -> None:
        super().__init__()
        self.function = forward
        self.p = nn.Parameter(torch.rand(shape)) if shape else None

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.p is None else self.function(x, self.p)


NOT_GATES: dict[str, Callable[[], nn.Module]] = {
    "fresh batch norm": lambda: nn.BatchNorm2d(C),
    "batch norm without offsets": lambda: _norm(nn.BatchNorm2d(C)),
    "layer scale": lambda: Lambda(lambda x, p: x * p, 1, C, 1, 1),
    "sigmoid of a parameter": lambda: Lambda(lambda x, p: x * torch.sigmoid(p), 1, C, 1, 1),
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardswish": nn.Hardswish,
    "SiLU by hand": lambda: Lambda(lambda x: x * torch.sigmoid(x)),
    "Hardswish by hand": lambda: Lambda(lambda x: x * F.relu6(x + 3) / 6),
    "dropout": lambda: nn.Dropout(0.5),
    "identity": nn.Identity,
    "RMS norm": lambda: Lambda(lambda x: x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6)),
    "instance norm": lambda: nn.InstanceNorm2d(C),
    "GLU": lambda: Lambda(lambda x: F.glu(torch.cat([x, x.flip(1)], 1), 1)),
    "GLU by hand": lambda: Lambda(lambda x: x * torch.sigmoid(x.flip(1))),
    "global context added": lambda: layers.GlobalContext(C, fuse_add=True, fuse_scale=False),
    "selective kernel": lambda: layers.SelectiveKernel(C),
    "split attention": lambda: layers.SplitAttn(C),
    "response norm": lambda: layers.grn.GlobalResponseNorm(C, channels_last=False),
    "residual of nothing": lambda: Lambda(lambda x: x + 1e-6 * x.mean((2, 3), keepdim=True) * x),
    "one scale an image": lambda: Lambda(lambda x: x * torch.sigmoid(x.mean((1, 2, 3), keepdim=True))),
}


def _norm(norm: nn.BatchNorm2d) -> nn.Module:
    nn.init.uniform_(norm.weight)
    norm.running_var = torch.rand(C) + 0.5
    return norm


@pytest.mark.parametrize("name", NOT_GATES)
def test_other_modules_are_not_found(name: str) -> None:
    torch.manual_seed(0)
    net = build_net(NOT_GATES[name]()).eval()
    model = fv.wrap(net, mean=0.5, std=0.5, size=SIZE)
    assert list(fv.gates(model)) == []
    assert torch.equal(model.net(torch.ones(1, 3, SIZE, SIZE)), net(torch.ones(1, 3, SIZE, SIZE)))
    assert [n for n, _ in model.net.named_modules()] == [n for n, _ in net.named_modules()]


# -------------------------------------------------------------------------------------------------- the self-check
@pytest.mark.parametrize("name", ["torchvision", "torch.sigmoid", "Gaussian", "two"])
def test_wrong_sites_are_not_verified(name: str) -> None:
    torch.manual_seed(0)
    model = fv.wrap(nn.Sequential(build_net(randomize(ALL[name].make())), nn.Conv2d(8, 3, 1)), size=SIZE)
    site, *_ = fv.gates(model).values()
    images = make_test_images(model)
    (right,) = verify_sites(model, [site], images).values()
    assert right.error < 1e-6
    wrong = [
        replace(site, nonlinearity=nn.Sequential(site.nonlinearity, nn.Hardtanh(0, 0.3))),
        replace(site, x=site.y),
        replace(site, y=site.x),
        replace(site, y=Tap("1")),
        replace(site, logits=replace(site.logits, module="0.0", flat=False)),
    ]
    for site in wrong:
        assert verify_sites(model, [site], images) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_verified_to_one_rounding(dtype: torch.dtype) -> None:
    forms = {name: ALL[name].make for name in ("torchvision", "tutorial", "torch.sigmoid", "Gaussian")}
    for make in (*forms.values(), GaussianInFloat):
        torch.manual_seed(0)
        model = fv.wrap(build_net(randomize(make())).to(dtype), size=SIZE)
        (site,) = fv.gates(model).values()
        assert site.error <= torch.finfo(dtype).eps
    scaled = build_net(Lambda(lambda x, p: x * p, 1, C, 1, 1)).to(dtype)
    assert list(fv.gates(fv.wrap(scaled, size=SIZE))) == []


# -------------------------------------------------------------------------------------------- networks from elsewhere
ARCHITECTURES = {  # blocks, gates, kinds
    "mobilenetv3_large_100": (8, 4056, {"SE"}),
    "efficientnet_b0": (16, 8960, {"SE"}),
    "legacy_seresnet18": (8, 1920, {"SE"}),
    "ese_vovnet19b_dw": (4, 2560, {"effective SE"}),
    "ecaresnet26t": (8, 7680, {"ECA"}),
    "rexnet_100": (13, 8268, {"SE"}),
    "regnety_004": (16, 4248, {"SE"}),
    "ghostnet_100": (7, 3936, {"SE"}),
    "skresnet18": (0, 0, set()),
    "resnest14d": (0, 0, set()),
    "convnextv2_atto": (0, 0, set()),
    "gcresnext26ts": (0, 0, set()),  # adds its context and has no gate
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_timms_architectures(name: str) -> None:
    torch.manual_seed(0)
    blocks, gates, kinds = ARCHITECTURES[name]
    sites = fv.gates(fv.wrap(timm.create_model(name, pretrained=False), size=64))
    assert (len(sites), sum(site.channels for site in sites.values())) == (blocks, gates)
    assert {site.kind for site in sites.values()} == kinds


@pytest.mark.parametrize(
    ("layer", "kinds", "found"),
    [
        ("cbam", ["CBAM channel", "CBAM spatial"], "timm class"),
        ("lcbam", ["channel gate", "spatial gate"], "functional"),
        ("gc", ["global context"], "timm class"),
        ("ecam", ["ECA"], "timm class"),
    ],
)
def test_attention_in_a_resnet(layer: str, kinds: list[str], found: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model("resnet18", pretrained=False, block_args={"attn_layer": layer})
    sites = fv.gates(fv.wrap(net, size=64))
    assert [site.kind for site in sites.values()] == kinds * 8
    assert {site.found for site in sites.values()} == {found}
    assert sum(site.channels for site in sites.channelwise.values()) == 2 * (64 + 128 + 256 + 512)


ONNX = pytest.mark.filterwarnings("ignore")  # warnings of the converter


@ONNX
def test_a_network_from_onnx() -> None:
    onnx2torch, onnx = pytest.importorskip("onnx2torch"), pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    shapes = {"w0": (C, 3, 3, 3), "w1": (4, C, 1, 1), "w2": (C, 4, 1, 1), "w3": (8, C, 1, 1)}
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    step, helper = onnx.helper.make_node, onnx.helper
    steps = [
        step("Conv", ["image", "w0"], ["x"]), step("GlobalAveragePool", ["x"], ["s"]), step("Conv", ["s", "w1"], ["h"]),
        step("Relu", ["h"], ["a"]), step("Conv", ["a", "w2"], ["z"]), step("HardSigmoid", ["z"], ["g"], alpha=0.25),
        step("Mul", ["g", "x"], ["y"]), step("Conv", ["y", "w3"], ["out"]),
    ]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None, c, None, None])
        for n, c in (("image", 3), ("out", 8))
    ]
    constants = [onnx.numpy_helper.from_array(w, n) for n, w in weights.items()]
    graph = helper.make_graph(steps, "se", ends[:1], ends[1:], constants)
    net = onnx2torch.convert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])).eval()
    images = torch.rand(3, 3, 12, 12)
    model = fv.wrap(net, size=12)
    (site,) = fv.gates(model).values()
    assert (site.kind, site.channels) == ("SE", C)
    w = {n: torch.from_numpy(v) for n, v in weights.items()}
    s = F.conv2d(images, w["w0"]).mean((2, 3))
    z = (s @ w["w1"][..., 0, 0].T).relu() @ w["w2"][..., 0, 0].T
    a = model(images, [f"gate:{site.name}", f"gate value:{site.name}"])
    torch.testing.assert_close(a[f"gate:{site.name}"], z)
    torch.testing.assert_close(a[f"gate value:{site.name}"], (0.25 * z + 0.5).clamp(0, 1))


@pytest.fixture
def onnx_file() -> Path:
    """A small trained MobileNetV3 in ONNX: FEATUREVIZ_ONNX, or the text orientation of rapidocr-onnxruntime."""
    places = [Path(os.environ["FEATUREVIZ_ONNX"])] if os.environ.get("FEATUREVIZ_ONNX") else []
    if (package := importlib.util.find_spec("rapidocr_onnxruntime")) and package.origin:
        places += Path(package.origin).parent.glob("models/*cls*.onnx")
    if not places or not places[0].is_file():
        pytest.skip("no ONNX file: set FEATUREVIZ_ONNX to its path, or install rapidocr-onnxruntime")
    return places[0]


@ONNX
def test_a_trained_mobilenet_from_onnx(onnx_file: Path) -> None:
    onnx2torch, onnx = pytest.importorskip("onnx2torch"), pytest.importorskip("onnx")
    net = onnx2torch.convert(_with_initializers(onnx.load(onnx_file))).eval()
    model = fv.wrap(net, mean=0.5, std=0.5, size=(48, 192))
    sites = fv.gates(model)
    assert [site.channels for site in sites.values()] == [8, 32, 88, 88, 40, 48, 104, 200, 200]
    assert {site.kind for site in sites.values()} == {"SE"}
    images = torch.rand(1, 3, 48, 192)
    name = list(sites)[-1]
    a = model(images, [f"gate:{name}", f"gate value:{name}"])
    torch.testing.assert_close(a[f"gate value:{name}"], (0.2 * a[f"gate:{name}"] + 0.5).clamp(0, 1))  # Paddle's slope
    assert torch.equal(model.net(2 * images - 1), net(2 * images - 1))


def _with_initializers(network: Any) -> Any:
    """Turn constants into initializers, because the converter reads weights from there."""
    for node in [node for node in network.graph.node if node.op_type == "Constant"]:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        network.graph.initializer.append(tensor)
        network.graph.node.remove(node)
    return network
