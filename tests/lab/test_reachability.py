"""Logits as a function of the squeeze, their natural bounds, and co-gating modes."""

import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError
from featureviz.lab import GateStatistics
from featureviz.lab.gates.co_gating_modes import modes
from featureviz.lab.gates.reachability import SqueezeEllipsoid, excitation, reachable_range, share_of_way
from tests.conftest import TinySE


class Inline(nn.Module):
    """A gate inside a larger block, as in EfficientNet-PyTorch, without a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.reduce, self.expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.stem(x).relu())
        z = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * torch.sigmoid(z)


@pytest.fixture(scope="module")
def natural() -> tuple[fv.TappedModel, GateStatistics]:
    torch.manual_seed(3)
    model = fv.wrap(TinySE(), mean=0.5, std=0.25, size=24)
    pictures = torch.rand(300, 3, 1, 1) + 0.4 * torch.rand(300, 3, 24, 24) * torch.rand(300, 1, 1, 1)
    return model, GateStatistics.measure(model, (pictures / 1.4).split(50))


@pytest.mark.parametrize("make", [TinySE, Inline], ids=["block", "inline"])
def test_the_excitation_of_an_image_s_own_squeeze_gives_its_logits(make: type[nn.Module]) -> None:
    torch.manual_seed(0)  # a step across a kink of the bottleneck's ReLU would not be linear
    model = fv.wrap(make(), size=24)
    (name,) = fv.gates(model)
    a = model(torch.rand(5, 3, 24, 24), [f"gate:{name}", f"pregate:{name}"])
    squeeze = a[f"pregate:{name}"].mean((2, 3))
    z = excitation(model, name)
    assert torch.allclose(z(squeeze), a[f"gate:{name}"], atol=1e-6)
    assert z(torch.rand(11, 8)).shape == (11, 8)  # whatever their number
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.net.modules())
    squeeze = squeeze.detach().requires_grad_()
    (slope,) = torch.autograd.grad(z(squeeze)[:, 3].sum(), squeeze)
    step = 1e-3 * torch.randn_like(squeeze)
    assert torch.allclose(z(squeeze + step)[:, 3] - z(squeeze)[:, 3], (slope * step).sum(1), atol=1e-5)


def test_bounds_hold_every_natural_logit_and_lie_on_the_ellipsoid(
    natural: tuple[fv.TappedModel, GateStatistics],
) -> None:
    model, statistics = natural
    found = reachable_range(model, "se", statistics)
    sample = statistics["se"].logit_sample
    inside = found.ellipsoid.distance(statistics["se"].squeeze_sample) <= 1
    assert 0.99 <= inside.float().mean() < 1 + 1e-9
    assert (found.high >= sample[inside].amax(0) - 1e-4).all()
    assert (found.low <= sample[inside].amin(0) + 1e-4).all()
    z = excitation(model, "se")
    assert (found.hull_high >= sample.amax(0) - 1e-5).all()
    assert (found.hull_low <= sample.amin(0) + 1e-5).all()
    weights = torch.rand(5000, len(sample), generator=torch.Generator().manual_seed(0)) ** 30
    mixtures = weights / weights.sum(1, keepdim=True) @ statistics["se"].squeeze_sample
    with torch.no_grad():
        assert (z(mixtures).amax(0) <= found.hull_high + 1e-3).all()


def test_no_random_squeeze_of_the_ellipsoid_beats_the_bounds(natural: tuple[fv.TappedModel, GateStatistics]) -> None:
    model, statistics = natural
    found = reachable_range(model, "se", statistics)
    ball = found.ellipsoid
    u = torch.randn(20000, ball.axes.shape[1], generator=torch.Generator().manual_seed(0))
    u = ball.radius * u / u.norm(dim=1, keepdim=True)
    with torch.no_grad():
        z = excitation(model, "se")(ball.mean + u @ ball.axes.T)
    width = found.high - found.low
    assert (z.amax(0) <= found.high + 0.01 * width).all()
    assert (z.amin(0) >= found.low - 0.01 * width).all()


def test_a_linear_block_has_the_bounds_of_the_textbook() -> None:
    """z = W p on the ball of radius R around m: W m +- R |W A|."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 1), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x * torch.sigmoid(self.fc(x.mean((2, 3))))[..., None, None]

    torch.manual_seed(0)
    model = fv.wrap(Linear(), size=8)
    (name,) = fv.gates(model)
    statistics = GateStatistics.measure(model, torch.rand(200, 3, 8, 8))
    found = reachable_range(model, name, statistics)
    ball = SqueezeEllipsoid.fit(statistics, name)
    fc = model.net.get_submodule("fc")
    middle = fc(ball.mean).detach()
    reach = ball.radius * (fc.get_parameter("weight") @ ball.axes).norm(dim=1)
    assert torch.allclose(found.high, middle + reach, rtol=1e-3, atol=1e-4)
    assert torch.allclose(found.low, middle - reach, rtol=1e-3, atol=1e-4)
    sample = fc(statistics[name].squeeze_sample).detach()
    assert torch.allclose(found.hull_high, sample.amax(0), atol=1e-5)  # of a linear function, at a corner
    assert torch.allclose(found.hull_low, sample.amin(0), atol=1e-5)
    mean, low, high = (float(z[2]) for z in (found.mean, found.low, found.high))
    assert share_of_way(mean, high, high) == pytest.approx(1)
    assert share_of_way(mean, high, mean) == pytest.approx(0, abs=1e-6)
    assert share_of_way(mean, low, mean + 2 * (low - mean)) == pytest.approx(2)


def test_what_has_no_squeeze_is_explained(natural: tuple[fv.TappedModel, GateStatistics]) -> None:
    from timm.layers.cbam import ChannelAttn

    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 8, 3), ChannelAttn(8, rd_ratio=0.5)), size=24)
    with pytest.raises(ModelError, match="not a function of its channels' means alone"):
        excitation(model, "1")
    with pytest.raises(InvalidInput, match=r"expected \[B,8\]"):
        excitation(natural[0], "se")(torch.rand(2, 9))


def test_modes_are_those_of_the_covariance(natural: tuple[fv.TappedModel, GateStatistics]) -> None:
    model, statistics = natural
    z = statistics["se"].logit_sample.double()
    strength = torch.linalg.svdvals(z - z.mean(0)).square()
    found = modes(statistics, "se", 3)
    assert torch.allclose(found.share.double(), (strength / strength.sum())[:3], rtol=0.02, atol=1e-4)
    assert torch.allclose(found.vectors @ found.vectors.T, torch.eye(3), atol=1e-4)
    driven = fv.render(model, found.objective(0), steps=30, size=24, progress=False)
    assert driven.scores[-1, 0] > driven.scores[0, 0]
    assert driven.spec.startswith('direction:"gate:se":[')


def test_nonnegative_modes_open_gates_and_rebuild_the_logits(
    natural: tuple[fv.TappedModel, GateStatistics],
) -> None:
    _, statistics = natural
    found = modes(statistics, "se", 3, method="nmf")
    assert (found.vectors >= 0).all()
    z = statistics["se"].logit_sample
    data = z - z.amin(0)
    solved = torch.linalg.lstsq(found.vectors.T, data.T).solution
    assert (data.T - found.vectors.T @ solved).norm() / data.norm() < 0.15
    with pytest.raises(InvalidInput, match="'svd' or 'nmf'"):
        modes(statistics, "se", 3, method="pca")
    with pytest.raises(InvalidInput, match="there are 1 to 8"):
        modes(statistics, "se", 9)
