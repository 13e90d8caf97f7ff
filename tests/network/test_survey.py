"""What is learnt on noise is checked on every picture; what depends on other images or on chance is seen."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import ModelError
from tests.network.test_axes import Plain

R = {"steps": 3, "size": 16, "progress": False}


class Bright(nn.Module):
    """Runs ``extra`` for bright pictures only, or ``body`` as often as the picture asks for."""

    def __init__(self, way: Callable[["Bright", Tensor], Tensor]) -> None:
        super().__init__()
        self.way, self.stem = way, nn.Conv2d(3, 8, 3)
        self.body, self.extra, self.head = (nn.Conv2d(8, 8, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        self.level = float(x.detach().mean())
        return self.head(self.way(self, self.stem(x)))


WAYS: dict[str, Callable[[Bright, Tensor], Tensor]] = {
    "only if bright": lambda net, y: net.extra(y) if net.level > 0.8 else net.body(y),
    "only if dark": lambda net, y: net.extra(net.body(y)) if net.level < 0.8 else y,
    "a loop": lambda net, y: [y := net.body(y) for _ in range(3 if net.level > 0.8 else 1)][-1],
    "a loop of none": lambda net, y: [y, *(y := net.body(y) for _ in range(0 if net.level > 0.8 else 1))][-1],
    "twice": lambda net, y: net.body(net.body(y)) if net.level > 0.8 else net.body(y),
}
BRIGHT, NOISE = 0.95 * torch.ones(2, 3, 16, 16), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", WAYS)
def test_a_layer_that_runs_otherwise_for_a_picture_is_an_error(name: str) -> None:
    model = fv.wrap(Bright(WAYS[name]).eval(), size=16)
    fv.Channel("body", 1)(model(NOISE, ["body"]))
    with pytest.raises(ModelError, match=r"'body' (did not run for this picture|ran more often for this picture)"):
        model(BRIGHT, ["body"])
    assert model(BRIGHT, ["head"])["head"].shape == (2, 8, 14, 14)  # it always runs once


def test_a_layer_that_runs_for_other_pictures_only_is_unknown_to_noise() -> None:
    model = fv.wrap(Bright(WAYS["only if bright"]).eval(), size=16)
    with pytest.raises(ModelError, match="'extra' does not run"):
        fv.render(model, "extra:1", **R)


@pytest.mark.parametrize("name", WAYS)
def test_where_a_forward_decides_each_picture_goes_alone(name: str) -> None:
    model = fv.wrap(Bright(WAYS[name]).eval(), size=16)
    mixed = torch.cat([NOISE[:1], BRIGHT[:1], NOISE[1:]])
    together = model(mixed, ["head"])["head"]
    alone = torch.cat([model(row, ["head"])["head"] for row in mixed.split(1)])
    assert torch.equal(together, alone)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True) + x.mean((0, 2, 3), keepdim=True)


class FirstOnly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x[:1].mean()


class OneAtATime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 1:
            raise ValueError("one at a time")
        return x.view(1, *x.shape[1:])


MIXES: dict[str, Callable[[], nn.Module]] = {
    "batch norm without statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "functional batch norm": lambda: Plain(lambda x: F.batch_norm(x, None, None, training=True)),
    "the mean of the batch": Mean,
    "the first of the batch": FirstOnly,
    "the norm of the batch": lambda: Plain(lambda x: x + x / (0.1 + x.norm(dim=0, keepdim=True))),
    "the last of the batch": lambda: Plain(lambda x: x * x[-1:].amax()),
    "one at a time": OneAtATime,
}


@pytest.mark.parametrize("name", MIXES)
def test_an_image_does_not_depend_on_its_company(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), MIXES[name](), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    model = fv.wrap(net, size=16)
    both = fv.render(model, fv.Channel("3", [1, 2]), **R)
    for i in range(2):
        alone = fv.render(model, fv.Channel("3", i + 1), image_ids=[i], **R)
        assert torch.equal(alone.images[0], both.images[i])
        assert torch.equal(alone.scores[:, 0], both.scores[:, i])
        assert torch.equal(alone.held_out.scores[:, 0], both.held_out.scores[:, i])


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn(x.shape, generator=self.generator)


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.5))


DRAWS: dict[str, Callable[[], nn.Module]] = {
    "functional dropout": lambda: Plain(lambda x: F.dropout(x, 0.2)),
    "noise": lambda: Plain(lambda x: x + 0.01 * torch.randn_like(x)),
    "a random number": lambda: Plain(lambda x: x * (1 + torch.rand(()))),
    "drop path": DropPath,
    "feature dropout": lambda: Plain(lambda x: F.dropout2d(x, 0.5)),
    "randomised ReLU": lambda: Plain(lambda x: F.rrelu(x, training=True)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_network_that_draws_random_numbers_is_refused_from_there_on(name: str) -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 8, 3), DRAWS[name](), nn.Conv2d(8, 4, 3)).eval(), size=16)
    before = torch.get_rng_state()
    for spec in ("1:1", "2:1"):
        with pytest.raises(ModelError, match="depends on random numbers that Sequential draws"):
            fv.render(model, spec, **R)
    fv.render(model, "0:1", **R)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["input", "output", "gate:x", "gate value:se", "deepdream", "a b", 'x"y', "é.ß"[:1]])
def test_a_module_may_have_any_name(name: str) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, nn.Conv2d(3, 8, 3))
            self.add_module("last", nn.Linear(8, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.get_submodule("last")(self._modules[name](x).mean((2, 3))).softmax(1)  # pyright: ignore

    model = fv.wrap(Named().eval(), size=16)
    assert name in [row.name for row in fv.layers(model)]
    goal = fv.parse(repr(fv.Channel(name, 7)))
    assert goal.layers == (name,)
    fv.render(model, goal, **R)
    a = model(torch.rand(1, 3, 16, 16), [name, ".input", ".output", "last"])
    assert a[name].shape[1] == 8
    assert a[".input"].shape[1] == 3
    assert torch.allclose(a[".output"], a["last"].softmax(1))
    assert torch.equal(fv.Logit(2)(a), a[".output"][:, 2])


def test_a_module_and_a_gate_of_one_name_are_told_apart(tiny: fv.TappedModel) -> None:
    tiny.net.add_module("gate:se", nn.Identity())
    with pytest.raises(ModelError, match="'gate:se' is the name of a module and of something of the gate 'se'"):
        tiny(torch.rand(1, 3, 24, 24), ["gate:se"])


def test_either_name_of_a_module_will_do() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net.other = net[0]  # pyright: ignore[reportArgumentType]
    net.forward = lambda x: net[1](net[0](x))
    model = fv.wrap(net, size=16)
    a = model(NOISE, ["0", "other"])
    assert torch.equal(a["0"], a["other"])


def test_an_attention_that_gives_a_tuple_can_be_read() -> None:
    net = Plain(nn.Conv2d(3, 8, 4, 4), lambda x: x.flatten(2).mT, Attention(), nn.Linear(8, 4))
    model = fv.wrap(net, size=16)
    assert model(NOISE, ["2.attention"])["2.attention"].shape == (2, 16, 8)
    assert "its tensor is read" in str(next(row for row in fv.layers(model) if row.name == "2.attention"))
    fv.render(model, "2.attention:3", **R)
    with pytest.raises(ModelError, match=r"'2.attention.out_proj' does not run.*used by '2.attention'"):
        fv.render(model, "2.attention.out_proj:3", **R)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]
