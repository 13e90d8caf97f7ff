"""Models made of models: the same activations with other gradients, noisy weights, several networks for one image."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput, UnknownName
from tests.conftest import TinySE


class Pooled(nn.Module):
    """A max pooling, and activations of every kind: modules and functions, in place and not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.last = nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 4, 3)
        self.relu, self.gelu = nn.ReLU(inplace=True), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.pool(self.relu(self.conv(x))))
        return self.last(torch.relu(x)).relu_() + nn.functional.silu(self.last(x), inplace=True)


def gradient(model: fv.TappedModel, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    a = model(x, [layer])[layer]
    weights = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    return a.detach(), torch.autograd.grad((a * weights).sum(), x)[0]


def test_values_are_the_same_and_gradients_are_those_of_the_smooth_path() -> None:
    net, x = Pooled(), torch.rand(2, 3, 20, 20)
    model = fv.wrap(net, mean=0.5, std=0.2)
    plain, smooth, lines = model, fv.smoothed_pooling(model), fv.linearised(model)
    for layer in ("conv", "pool", "last", "output"):
        if layer == "last":
            continue  # it runs twice
        (a, own), *others = (gradient(m, layer, x) for m in (plain, smooth, lines))
        for b, other in others:
            assert torch.equal(a, b)
            assert torch.equal(own, other) == (layer == "conv")
    assert torch.equal(gradient(plain, "output", x)[1], gradient(model, "output", x)[1])  # it is as it was

    class Smooth(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (nn.functional.avg_pool2d(x.square(), 3, 2, 1, divisor_override=1) + 0.01).sqrt()

    written = copy.deepcopy(net)
    written.pool = Smooth()  # pyright: ignore[reportAttributeAccessIssue]
    expected = gradient(fv.wrap(written, mean=0.5, std=0.2), "pool", x)[1]
    assert torch.allclose(gradient(smooth, "pool", x)[1], expected, atol=1e-5)
    written.relu = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    by_hand = x.clone().requires_grad_()
    before = nn.functional.conv2d((by_hand - 0.5) / 0.2, net.conv.weight, net.conv.bias)
    rectified = before.detach().relu() + before - before.detach()
    path = Smooth()(rectified)
    weights = torch.randn(path.shape, generator=torch.Generator().manual_seed(1))
    (line,) = torch.autograd.grad((path * weights).sum(), by_hand)
    assert torch.allclose(gradient(lines, "pool", x)[1], line, atol=1e-5)


def test_a_render_tells_its_gradients_and_differs() -> None:
    torch.manual_seed(0)
    model = fv.wrap(Pooled(), mean=0.5, std=0.2, name="net")
    options: dict[str, Any] = {"size": 24, "steps": 3, "progress": False}
    made = [
        fv.render(m, "deepdream:pool", **options) for m in (model, fv.smoothed_pooling(model), fv.linearised(model))
    ]
    assert [m.recipe["model"] for m in made] == ["net", "net, smooth pooling", "net, lines"]
    assert not torch.equal(made[0].images, made[1].images)
    assert torch.equal(fv.render(model, "deepdream:pool", **options).images, made[0].images)


def test_noisy_weights_are_those_of_the_seed_and_leave_the_network_as_it_is() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 40, 5), nn.BatchNorm2d(40), nn.ReLU()).eval(), torch.rand(2, 3, 20, 20)
    model, before = fv.wrap(net, mean=0.5, std=0.2, name="net"), copy.deepcopy(net.state_dict())
    plain = model(x, ["2"])["2"]
    one, again, other = (fv.noisy_weights(model, 0.2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one(x, ["2"])["2"], again(x, ["2"])["2"])
    assert not torch.equal(one(x, ["2"])["2"], other(x, ["2"])["2"])
    assert torch.equal(fv.noisy_weights(model, 0)(x, ["2"])["2"], plain)
    assert torch.equal(model(x, ["2"])["2"], plain)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    own = dict(one.net.named_parameters())
    relative = own["0.weight"] / net[0].weight - 1  # pyright: ignore[reportOperatorIssue]
    assert abs(relative.mean()) < 0.02
    assert 0.19 < relative.std() < 0.21
    assert torch.equal(one.net[1].running_mean, net[1].running_mean)  # pyright: ignore
    written = copy.deepcopy(net)
    written.load_state_dict(one.net.state_dict())
    assert torch.equal(fv.wrap(written, mean=0.5, std=0.2)(x, ["2"])["2"], one(x, ["2"])["2"])
    for sd in (-0.1, 2, float("nan"), "a"):
        with pytest.raises(InvalidInput, match="sd="):
            fv.noisy_weights(model, sd)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match="wrap it first"):
        fv.noisy_weights(net)  # pyright: ignore[reportArgumentType]


def test_an_image_of_noisy_networks_is_the_same_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    model = fv.wrap(TinySE(), mean=0.5, std=0.25, size=24)
    copies = fv.ensemble({"plain": model} | {f"n{i}": fv.noisy_weights(model, 0.2, seed=i) for i in range(2)})
    goals = [f"plain.conv:{unit} + n0.conv:{unit} + gate:n1.se:{unit}" for unit in (1, 2)]
    options: dict[str, Any] = {"size": 24, "steps": 4, "progress": False}
    batch = fv.render(copies, goals, **options).images
    alone = fv.render(copies, goals[1], image_ids=[1], **options).images
    assert torch.allclose(alone[0], batch[1], atol=2e-6)
    assert not torch.equal(fv.render(model, "conv:2", image_ids=[1], **options).images[0], alone[0])
    made = fv.render(fv.noisy_weights(model, 0.2, seed=5), "gate:se:1", **options)
    assert made.recipe["model"] == "TinySE, weight noise 0.2 of seed 5"


@pytest.fixture
def both() -> tuple[fv.TappedModel, fv.TappedModel, fv.TappedModel]:
    torch.manual_seed(0)
    one, two = fv.wrap(TinySE(), mean=0.5, std=0.25, size=24), fv.wrap(Pooled(), mean=[0.1, 0.2, 0.3], size=(30, 20))
    return one, two, fv.ensemble({"se": one, "pooled": two})


def test_an_ensemble_reads_what_its_members_read(both: tuple[fv.TappedModel, ...]) -> None:
    one, two, all_of_them = both
    x = torch.rand(2, 3, 24, 24)
    read = all_of_them(x, ["se.conv", "pooled.pool", "output", "gate:se.se"])
    own = one(x, ["conv", "output", "gate:se"])
    assert torch.allclose(read["se.conv"], own["conv"], atol=1e-6)
    assert torch.allclose(read["output"], own["output"], atol=1e-6)
    assert torch.allclose(read["gate:se.se"], own["gate:se"], atol=1e-6)
    resized = nn.functional.interpolate(x, (30, 20), mode="bilinear", align_corners=False, antialias=True)
    assert torch.allclose(read["pooled.pool"], two(resized, ["pool"])["pool"], atol=1e-6)


def test_one_image_excites_units_of_several_networks(both: tuple[fv.TappedModel, ...]) -> None:
    goal = "se.conv:1 + pooled.pool:2"
    made = fv.render(both[2], goal, size=24, steps=24, progress=False)
    for part in goal.split(" + "):
        start, end = (fv.evaluate(both[2], part, x).scores.mean() for x in (fv.FourierImage(1, 24)(), made.images))
        assert end > start
    with pytest.raises(UnknownName, match=r"nearest: 'se\.conv'"):
        fv.render(both[2], "se.cnv:1", size=24, steps=1, progress=False)


def test_what_is_no_ensemble_is_explained() -> None:
    one, grey = fv.wrap(nn.Conv2d(3, 4, 3)), fv.wrap(nn.Conv2d(1, 4, 3), channels=1)
    for members, message in (
        ({}, "expected models by names"),
        ({"a.b": one}, "expected models by names"),
        ({"forward": one}, "expected models by names"),
        ({"a": nn.ReLU()}, "wrap it first"),
        ([one], "expected a Mapping"),
        ({"a": one, "b": grey}, "member 'b' takes 1 channels"),
    ):
        with pytest.raises(InvalidInput, match=message):
            fv.ensemble(members)  # pyright: ignore[reportArgumentType]
