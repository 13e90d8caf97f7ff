"""Each failure has its own cause and remedy; what can work, works."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError
from tests.network.test_axes import Plain

R = {"steps": 2, "size": 24, "progress": False}


def head() -> nn.Module:
    return nn.Conv2d(8, 4, 1)


class Odd(nn.Module):
    """A stem, and a body that its forward runs in its own way."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.way, self.stem, self.body, self.head = way, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.way(self.body, self.stem(x)))


@torch.no_grad()
def frozen(body: nn.Module, x: Tensor) -> Tensor:
    return body(x)


def inferred(body: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = body(x)
    return y.clone()


NO_GRADIENT = {
    "no_grad": (frozen, "'body' runs without gradients (torch.no_grad"),
    "inference mode": (inferred, "'body' runs without gradients"),
    "detach": (lambda body, x: body(x).detach(), "does not depend on the image"),
    "inside a module": (lambda body, x: body(x.detach()), "does not depend on the image"),
    "whole numbers": (lambda body, x: body(x.to(torch.int64).float()), "does not depend on the image"),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_lost_gradient_is_explained(name: str) -> None:
    way, message = NO_GRADIENT[name]
    model = fv.wrap(Odd(way).eval(), size=24)
    with pytest.raises(InvalidInput) as caught:
        fv.render(model, "head:1", **R)
    assert message in str(caught.value)
    fv.render(model, "stem:1", **R)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_is_no_obstacle_unless_it_is_reentrant(reentrant: bool) -> None:
    def way(body: nn.Module, x: Tensor) -> Tensor:
        result = checkpoint(body, x, use_reentrant=reentrant)
        assert isinstance(result, Tensor)
        return result

    torch.manual_seed(0)
    net = Odd(way).eval()
    same = Odd(lambda body, x: body(x)).eval()
    same.load_state_dict(net.state_dict())
    for spec in ("stem:2", "body:1", "head:1"):
        if reentrant and spec != "stem:2":
            with pytest.raises(InvalidInput, match="reentrant checkpoint"):
                fv.render(fv.wrap(net, size=24), spec, **R)
        else:
            expected = fv.render(fv.wrap(same, size=24), spec, **R).images
            assert torch.allclose(fv.render(fv.wrap(net, size=24), spec, **R).images, expected, atol=1e-5)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv(x) * mask


class TakesAList(TwoInputs):
    def forward(self, x: list[Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not isinstance(x, list):
            raise TypeError("expected a list of images")
        return self.conv(torch.stack(x))


def lonely_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4, track_running_stats=False),
        nn.Linear(4, 2),
    )  # fmt: skip


FAILURES = {
    "one channel": (lambda: nn.Sequential(nn.Conv2d(1, 6, 5)), "0:1", r"wrap\(net, channels=1\)"),
    "six channels": (lambda: nn.Sequential(nn.Conv2d(6, 6, 5)), "0:1", r"wrap\(net, channels=6\)"),
    "inner channels": (lambda: nn.Sequential(nn.Conv2d(3, 6, 5), nn.Conv2d(3, 6, 1)), "1:1", "the network's own error"),
    "two inputs": (TwoInputs, "conv:1", "forward_fn"),
    "a list": (TakesAList, "conv:1", "forward_fn"),
    "too small": (lambda: nn.Sequential(nn.Conv2d(3, 4, 9, 4), nn.Conv2d(4, 4, 9)), "1:1", r"wrap\(net, size=\.\.\.\)"),
    "fixed size": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(100, 2)), "2:1", r"wrap\(net, size=\.\.\.\)",
    ),
    "batch norm of one": (lonely_norm, "4:1", "running statistics"),
    "two dtypes": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3).double()), "1:1", r"net\.float\(\)",
    ),
    "meta": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)).to("meta"), "0:1", "load them"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_names_its_cause(name: str) -> None:
    make, spec, message = FAILURES[name]
    model = fv.wrap(make(), size=24)
    with pytest.raises(ModelError, match=message) as caught:
        fv.render(model, spec, **R)
    assert ("larger size" in str(caught.value)) == (name in ("too small", "fixed size", "inner channels"))


def test_what_runs_before_the_failure_can_be_rendered() -> None:
    fv.render(fv.wrap(lonely_norm(), size=24), "2:1", **R)


DTYPES = {
    "half stem": lambda: Plain(nn.Conv2d(3, 8, 3).bfloat16(), lambda x: x.float(), head()),
    "double": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), head()).double(),
    "bfloat16": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), head()).bfloat16(),
    "double head": lambda: Plain(nn.Conv2d(3, 8, 3), lambda x: x.double(), head().double()),
    "another layer first": lambda: Early(),
}


class Early(nn.Module):
    """Its first parameter is not that of the layer which gets the image."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 4).double()
        self.conv, self.head = nn.Conv2d(3, 8, 3), head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x))


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_may_be_mixed(name: str) -> None:
    net = DTYPES[name]()
    made = fv.render(fv.wrap(net, size=24), f"{[n for n, _ in net.named_modules()][-1]}:1", **R)
    assert made.images.dtype == made.scores.dtype == torch.float32
    assert torch.isfinite(made.scores).all()


def quantized() -> nn.Module:
    from torch.ao.quantization import quantize_dynamic

    return quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 4)), {nn.Linear})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_network_is_refused_with_its_cause() -> None:
    with pytest.raises(fv.FeaturevizError, match=r"quantized.*wrap the float network"):
        fv.render(fv.wrap(quantized(), size=24), "1:1", **R)


def test_a_dead_unit_is_told() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1.0)
    with pytest.warns(RuntimeWarning, match=r"1 of 1 images are still as they started.*\(1:1\)"):
        made = fv.render(fv.wrap(net, size=24), "1:1", **R)
    assert made.recipe["unmoved"] == [0]


@pytest.mark.parametrize("spec", ["0*0:1", "0:1 - 0:1", "[0:1 - 0:1, 0:2]", "0:[1, 2] - 0:[1, 2]"])
def test_an_objective_without_a_slope_is_told(spec: str) -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3)), size=24)
    with pytest.warns(RuntimeWarning, match="still as they started"):
        made = fv.render(model, spec, **R)
    assert made.recipe["unmoved"][0] == 0


RESULTS = {
    "a number": lambda a: 1.0, "None": lambda a: None, "numpy": lambda a: a.detach().numpy().mean((1, 2, 3)),
    "complex": lambda a: a.mean((1, 2, 3)).to(torch.complex64), "a scalar": lambda a: a.mean(),
    "a map": lambda a: a.mean(1), "a list": lambda a: [a.mean()],
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_scores_of_another_kind_are_refused(name: str) -> None:
    def score(a: Tensor) -> Tensor:
        return RESULTS[name](a)

    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3)), size=24)
    with pytest.raises(InvalidInput, match=r"score\(.0.\) gave .* expected \[1\], one a view"):
        fv.render(model, fv.objective(score)("0"), **R)
