"""Tapping a network: truncated equals full, and the caller's network comes back as it was."""

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError, UnknownName
from tests.conftest import TinySE


def state_of(net: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {k: v.clone() for k, v in net.state_dict().items()},
        "identity": [id(p) for p in net.parameters()],
        "grads": [p.grad for p in net.parameters()],
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "training": [m.training for m in net.modules()],
        "inplace": [getattr(m, "inplace", None) for m in net.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()],
        "attributes": [sorted(vars(m)) for m in net.modules()],
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tensors = all(torch.equal(a["tensors"][k], b["tensors"][k]) for k in a["tensors"])
    return tensors and all(a[k] == b[k] for k in a if k != "tensors")


def families() -> list[tuple[nn.Module, list[str]]]:
    m = torchvision.models
    return [
        (TinySE(), ["stem.1", "se", "conv", "head"]),
        (m.mobilenet_v3_small(weights=None), ["features.1.block.1", "features.4", "features.7.block.3", "avgpool"]),
        (m.efficientnet_b0(weights=None), ["features.2.0.block.2", "features.4", "avgpool"]),
        (m.resnet18(weights=None), ["layer1.0.bn1", "layer2.1", "layer3.0.conv2", "fc"]),
    ]


@pytest.mark.parametrize(
    ("net", "names"), families(), ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else ""
)
def test_truncated_equals_full_bitwise(net: nn.Module, names: list[str]) -> None:
    """Also where a layer's output is overwritten in place by what follows it."""
    model = fv.wrap(net, mean=0.4, std=0.3)
    reference = copy.deepcopy(net).eval()
    x = torch.rand(2, 3, 64, 64)
    truth: dict[str, torch.Tensor] = {}
    for name in names:  # a hook that clones at once sees what each layer gave, whatever overwrites it later
        reference.get_submodule(name).register_forward_hook(
            lambda _m, _a, out, name=name: truth.__setitem__(name, out.clone())
        )
    with torch.no_grad():
        output = reference((x - 0.4) / 0.3)
        together = model(x, [*names, "input", "output"])
        for name in names:
            assert torch.equal(model(x, [name])[name], truth[name]), name
            assert torch.equal(together[name], truth[name]), name
        assert torch.equal(together["output"], output)
        assert torch.equal(together["input"], x)
        pair = model(x, [names[2], names[0]])
        assert torch.equal(pair[names[0]], truth[names[0]])


def test_the_tail_never_runs(net: TinySE) -> None:
    model = fv.wrap(net, size=24)
    model.layers()  # the one full forward that learns the shapes
    ran: list[str] = []
    for name in ("conv", "head"):
        model.net.get_submodule(name).register_forward_hook(lambda _m, _a, _o, name=name: ran.append(name))
    fv.render(model, fv.Channel("se", 1), steps=3, size=24, progress=False)
    assert ran == []
    fv.render(model, fv.Channel("conv", 1), steps=3, size=24, progress=False)
    assert set(ran) == {"conv"}


def test_the_callers_network_is_left_alone(net: TinySE) -> None:
    net.stem[0].weight.requires_grad_(False)
    net.head.register_forward_hook(lambda _m, _a, _o: None)
    net(torch.rand(2, 3, 24, 24)).sum().backward()
    before, x = state_of(net), torch.rand(1, 3, 24, 24)
    model = fv.wrap(net, size=24, labels=["ant", "bee", "cat", "dog", "eel"])
    fv.layers(model), fv.gates(model)
    fv.render(model, "conv:1 - gate:se:2", steps=3, size=24, progress=False)
    assert same(before, state_of(net))

    @fv.objective
    def broken(a: torch.Tensor) -> torch.Tensor:
        raise KeyError("mine")

    inner = state_of(model.net)
    for goal, error in (
        (broken("conv"), KeyError),
        (fv.Channel("conv", 99), InvalidInput),
        (fv.Logit("fox"), UnknownName),
    ):
        with pytest.raises(error):
            fv.render(model, goal, steps=3, size=24, progress=False)
    assert same(before, state_of(net))
    assert same(inner, state_of(model.net))
    assert x.grad is None


def test_the_copy_shares_the_weights_memory(net: TinySE) -> None:
    model = fv.wrap(net)
    for ours, theirs in zip(model.net.parameters(), net.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()
        assert not ours.requires_grad
        assert theirs.requires_grad
    assert all(not getattr(m, "inplace", False) for m in model.net.modules())
    assert not any(m.training for m in model.net.modules())


def test_layers_lists_names_shapes_and_gates(tiny: fv.TappedModel) -> None:
    rows = {layer.name: layer for layer in fv.layers(tiny)}
    assert rows["conv"].shape == (1, 8, 12, 12)
    assert rows["se"].gate
    assert not rows["conv"].gate
    assert next(iter(rows)) == "stem.0"
    assert "Conv2d" in str(rows["conv"])
    assert "gate" in str(rows["se"])


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.pair = Pair()
        self.unused = nn.Linear(2, 2)
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 9), nn.Conv2d(4, 4, 9))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.act(self.act(self.a(x)))
        return {"x": self.deep(self.pair(x)[0])}


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("not today")


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("b", UnknownName, "no layer 'b'"),
        ("dep.0", UnknownName, "nearest: 'deep.0'"),
        ("act", ModelError, "runs 2 times in one forward"),
        ("unused", ModelError, "does not run in Odd's forward"),
        ("gate:deep", ModelError, "has no squeeze-and-excitation gates"),
    ],
)
def test_a_layer_that_cannot_be_tapped_is_explained(layer: str, error: type[Exception], message: str) -> None:
    model = fv.wrap(Odd(), size=32)
    with pytest.raises(error, match=message):
        model(torch.rand(1, 3, 32, 32), [layer])


def test_an_image_too_small_names_the_layer_and_the_remedy() -> None:
    model = fv.wrap(Odd())
    with pytest.raises(ModelError, match=r"\[1, 3, 12, 12\] before layer 'deep.1' was reached.*\n.*larger size"):
        fv.render(model, fv.Channel("deep.1", 0), steps=2, size=12, progress=False)
    fv.render(model, fv.Channel("a", 0), steps=2, size=12, progress=False)  # what does not need the tail still works


def test_a_network_that_raises_keeps_its_cause() -> None:
    model = fv.wrap(Raises(), size=8)
    for call in (model.layers, lambda: fv.render(model, fv.Logit(0), steps=1, progress=False)):
        with pytest.raises(ModelError, match="ZeroDivisionError: not today") as caught:
            call()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_forward_fn_calls_what_is_not_a_plain_classifier() -> None:
    model = fv.wrap(Odd(), size=32, forward_fn=lambda net, x: net(x)["x"].mean((2, 3)))
    assert model(torch.rand(2, 3, 32, 32), ["output"])["output"].shape == (2, 4)


def test_input_sizes() -> None:
    net = nn.Conv2d(3, 4, 3)
    assert fv.wrap(net).input_size((30, 40)) == (30, 40)
    assert fv.wrap(net, size=60).input_size((30, 40)) == (60, 80)
    assert fv.wrap(net, size=(50, 60)).input_size((30, 40)) == (50, 60)


def test_the_model_is_not_moved(tiny: fv.TappedModel) -> None:
    assert tiny.on(None) is tiny
    assert tiny.on("cpu") is tiny
    moved = tiny.on("meta")
    assert moved.device.type == "meta"
    assert tiny.device.type == "cpu"


def test_it_stays_in_eval_mode_and_on_the_networks_device(net: TinySE) -> None:
    model = fv.wrap(net)
    before = net.stem[1].running_mean.clone()
    model.train()
    model(torch.rand(4, 3, 24, 24), ["output"])
    assert torch.equal(before, net.stem[1].running_mean)
    assert fv.wrap(TinySE().to("meta"), mean=0.5).device.type == "meta"
    with torch.inference_mode():
        model = fv.wrap(TinySE(), mean=0.5, size=24)
    assert len(fv.render(model, "conv:1", steps=2, size=24, progress=False)) == 1


def test_what_a_tuple_or_a_dictionary_holds_is_read() -> None:
    a = fv.wrap(Odd(), size=32)(torch.rand(1, 3, 32, 32), ["pair", "deep", "output"])
    assert a["pair"].shape[0] == 1
    assert torch.equal(a["output"], a["deep"])


def test_bad_arguments_are_named() -> None:
    net = nn.Conv2d(3, 4, 3)
    with pytest.raises(InvalidInput, match=r"expected an nn\.Module"):
        fv.wrap("resnet18")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match=r"mean=.* expected a number, or 3"):
        fv.wrap(net, mean=[0.1, 0.2])
    with pytest.raises(InvalidInput, match="positive"):
        fv.wrap(net, std=[0.1, 0.0, 0.1])
