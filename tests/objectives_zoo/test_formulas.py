"""Entries of the zoo compute the formulas of their sources, and do what they are for."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
import objectives_zoo as zoo
from featureviz.network.axes import Axes
from tests.objectives_zoo.entries import make_acts

TOKENS = {"x": Axes.parse("n t c")}


def acts(a: Tensor, views: int = 1, axes: Any = None) -> fv.Activations:
    return fv.Activations({"x": a}, fv.Rows.make(len(a) // views, views), axes=axes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_priors_measure_the_image() -> None:
    flat, step = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1.0
    both = torch.cat([flat, step])
    assert zoo.total_variation("x")(acts(both)).tolist() == [0.0, 24.0]
    assert zoo.l1("x")(acts(both)).tolist() == [0.0, 96.0]
    assert zoo.l2("x", centre=0.0)(acts(both))[1].item() == pytest.approx(96**0.5, abs=1e-3)
    edge = torch.full((1, 3, 12, 12), 0.5)
    edge[..., 0, :] = 1.0
    inside = torch.full((1, 3, 12, 12), 0.5)
    inside[..., 6, 6] = 1.0
    cost = zoo.boundary_complexity("x", width=3)(acts(torch.cat([edge, inside, edge * 0 + 0.5])))
    assert cost[0] > 0.01
    assert cost[1:].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_step_along_blur_each_step_blurs_once() -> None:
    """Lucid's kernel: 1 in the middle, 0.5 around it, divided by its sum over the pixels that exist."""
    x = noise(2, 3, 6, 5).requires_grad_()
    kernel = torch.full((3, 1, 3, 3), 0.5)
    kernel[:, :, 1, 1] = 1.0
    blurred = F.conv2d(x, kernel, padding=1, groups=3) / F.conv2d(torch.ones_like(x), kernel, padding=1, groups=3)
    score = zoo.blur_each_step("x")(acts(x))
    assert torch.allclose(score, 0.5 * (x - blurred).square().flatten(1).sum(1), atol=1e-4)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert torch.allclose(gradient, (x - blurred).detach(), atol=1e-5)


def test_directions_compute_lucids_products() -> None:
    a, v = noise(2, 4, 5, 6), [0.5, -1.0, 2.0, 0.0]
    vector = torch.tensor(v)
    for power in (0.0, 2.0):
        at = a[:, :, 1, 3]
        dot = at @ vector
        cosine = dot / ((1e-4 + at.norm(dim=1)) * (1e-4 + vector.norm()))
        expected = dot * cosine.clamp(min=0.1) ** power
        assert torch.allclose(zoo.DirectionNeuron("x", v, 1, 3, power)(acts(a)), expected, atol=1e-5)
    centre = a[:, :, 2, 3]
    dot = centre @ vector
    angled = dot * (dot / (centre.norm(dim=1) + 1e-4)).clamp(min=0.1) ** 4
    assert torch.allclose(zoo.AngledNeuron("x", v)(acts(a)), angled, atol=1e-5)
    patch = noise(4, 2, 3, seed=1)
    crop = a[:, :, 1:3, 1:4]
    assert torch.allclose(zoo.TensorDirection("x", patch)(acts(a)), (crop * patch).sum(1).mean((1, 2)), atol=1e-5)
    rectified = torch.einsum("mchw,c->m", a.relu(), vector) / 30
    assert torch.allclose(zoo.RectifiedDirection("x", v)(acts(a)), rectified, atol=1e-5)


def test_whitening_takes_away_what_all_activations_share() -> None:
    mixing = torch.tensor([[1.0, 0.9, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 1.0]])
    samples = noise(4000, 3) @ mixing
    white = torch.tensor(zoo.whitened([0.0, 1.0, 0.0], samples))
    expected = torch.linalg.inv(samples.T @ samples / 4000)[1]
    assert torch.allclose(white, expected / expected.norm(), atol=1e-3)


def test_weights_are_means_over_all_entries() -> None:
    a, w = noise(2, 4, 5, 6), torch.tensor([0.5, -1.0, 2.0, 0.0])
    weighted = a * w[:, None, None]
    assert torch.allclose(zoo.ChannelWeights("x", w)(acts(a)), weighted.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(zoo.NeuronWeights("x", w)(acts(a)), weighted[:, :, 2, 3].mean(1), atol=1e-6)
    spot = zoo.LocalGroup("x", w, 1, 2, 2, 3)
    assert torch.allclose(spot(acts(a)), weighted[:, :, 1:3, 2:5].mean((1, 2, 3)), atol=1e-6)


def lucid_diversity(a: Tensor) -> Tensor:
    """Lucid's, written from its definition: the sum over all ordered pairs, divided by the number of images."""
    grams = [F.normalize((x.flatten(1) @ x.flatten(1).T).flatten(), dim=0) for x in a]
    n = len(a)
    return torch.stack([grams[i] @ grams[j] for i in range(n) for j in range(n) if i != j]).sum() / n


def test_diversity_has_lucids_gradient_at_lucids_weight() -> None:
    a = noise(4, 6, 5, 5).requires_grad_()
    goal = fv.Channel("x", 3) + 100 * zoo.Diversity("x")
    lucid = a[:, 3].mean() - 1e2 * lucid_diversity(a)
    ours, theirs = (torch.autograd.grad(s, a)[0].flatten() for s in (goal(acts(a)).sum(), lucid))
    assert F.cosine_similarity(ours, theirs, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(ours, 4 * theirs, rtol=1e-3, atol=1e-6)


def test_diversity_does_not_see_where_things_are() -> None:
    a = noise(3, 9, 6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    one, other = (zoo.Diversity("x")(acts(x, axes=TOKENS)) for x in (a, a[:, order]))
    assert torch.allclose(one, other, atol=1e-5)
    assert not torch.allclose(one, zoo.Diversity("x")(acts(a[:, :, torch.arange(6).flip(0)].cumsum(2), axes=TOKENS)))


def test_diversity_compares_equal_views() -> None:
    a, b = noise(1, 6, 5, 5), noise(1, 6, 5, 5, seed=1)
    twins = zoo.Diversity("x")(acts(torch.cat([a, a])))
    assert torch.allclose(twins, torch.tensor([-1.0, -1.0]), atol=1e-5)
    assert (zoo.Diversity("x")(acts(torch.cat([a, b]))) > twins).all()
    views = zoo.Diversity("x")(acts(torch.cat([a, b, a, b]), views=2))  # images (a, b) and (a, b): the same views
    assert torch.allclose(views, torch.full((4,), -1.0), atol=1e-5)


class TwoModes(nn.Module):
    """A unit that answers to a red or to a blue picture, through a channel of its own for each."""

    def __init__(self) -> None:
        super().__init__()
        self.modes = nn.Conv2d(3, 2, 1)
        self.modes.weight = nn.Parameter(torch.tensor([[1.0, -0.5, -0.5], [-0.5, -0.5, 1.0]])[:, :, None, None])
        self.modes.bias = nn.Parameter(torch.tensor([0.2, 0.2]))
        self.relu, self.unit = nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False)
        self.unit.weight = nn.Parameter(torch.tensor([[[[1.0]], [[0.9]]]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(self.relu(self.modes(x)).square())


@pytest.mark.parametrize("seed", range(5))
def test_diversity_finds_both_modes_of_a_unit(seed: int) -> None:
    model = fv.wrap(TwoModes(), mean=0.4, std=0.2)
    start = 0.4 + 0.02 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    start[:, 0] += 0.03  # both begin in the red one's reach
    modes = {}
    for weight in (0, 20):
        goal = fv.parse(f"unit:[0, 0] + {weight}*diversity(relu)")
        made = fv.render(
            model, goal, image=fv.PixelImage(image=start), transforms=[], steps=60, seed=seed, progress=False,
            optimizer=fv.Adam(lr=0.1),
        )  # fmt: skip
        modes[weight] = model(made.images, ["relu"])["relu"].mean((2, 3)).argmax(1).tolist()
    assert modes[0] == [0, 0]
    assert sorted(modes[20]) == [0, 1]


def test_alignment_has_each_pair_once_and_interpolation_is_a_series() -> None:
    a = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 4, 4)
    pairs = sum((i - j) ** 2 / 2.0 ** (j - i) for i in range(6) for j in range(i + 1, min(6, i + 5)))
    assert zoo.Alignment("x")(acts(a)).sum().item() == pytest.approx(-pairs)
    assert zoo.Alignment("x", 1, 1)(acts(a[:3])).tolist() == [-0.5, -1.0, -0.5]
    series = zoo.interpolation(fv.Channel("x", 0), fv.Channel("x", 1), 3)
    b = torch.stack([torch.full((3, 4, 4), 2.0), torch.full((3, 4, 4), 4.0)], 1)
    assert series(acts(b)).tolist() == [2.0, 3.0, 4.0]


def test_schedules_follow_the_step(tiny: fv.TappedModel) -> None:
    steps = 8
    rising = fv.Channel("conv", 1)
    plain, faded, late = (
        fv.render(tiny, goal, steps=steps, size=24, progress=False, optimizer=lambda p: torch.optim.SGD(p, lr=1e-4))
        for goal in (rising, rising * 1 + 0 * rising - zoo.Decay(rising, 4), zoo.OnlyAfter(rising, 5))
    )  # fmt: skip
    weights = torch.tensor([max(0.0, 1 - t / 4) for t in range(steps)])
    assert torch.allclose(faded.scores[:, 0], (1 - weights) * plain.scores[:, 0], atol=1e-4)
    assert torch.allclose(late.scores[:, 0], (torch.arange(steps) >= 5) * plain.scores[:, 0], atol=1e-4)
    assert torch.allclose(faded.held_out.scores, plain.held_out.scores, atol=1e-4)
    assert torch.allclose(late.held_out.scores, plain.held_out.scores, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*still as they started")  # so they should be: they are the optimum
def test_paired_pictures_pass_through_the_same_draws(tiny: fv.TappedModel) -> None:
    """The picture itself has no distance from itself, in any view, alone, in a batch and on held-out views."""
    picture = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    goal = zoo.FeatureInversion("conv", picture)
    for runtime in (None, fv.Runtime(precision="bfloat16")):
        made = fv.render(tiny, goal, image=picture, steps=1, views=3, runtime=runtime, progress=False)
        assert made.scores.abs().max() < 1e-4
    held = fv.evaluate(tiny, goal, picture)
    assert held.scores.abs().max() < 1e-6
    swapped = fv.evaluate(tiny, goal, picture.flip(0)).scores
    assert swapped.max() < -1e-3
    pair = fv.evaluate(tiny, [goal.select([1]), goal.select([0])], picture.flip(0)).scores
    assert pair.abs().max() < 1e-6
    larger = F.interpolate(picture, 48, mode="nearest")
    other = fv.evaluate(tiny, zoo.FeatureInversion("conv", larger), picture).scores
    assert other.abs().max() < 0.5 * swapped.abs().min()
    assert goal(tiny(picture, ["conv"])).abs().max() < 1e-6


def test_the_deviation_has_a_slope_at_the_picture_and_a_balance(tiny: fv.TappedModel) -> None:
    picture = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    goal = fv.Channel("conv", 1)
    kappa = zoo.balance(tiny, goal, "stem", picture)
    assert 0 < kappa < math.inf
    x = picture.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(zoo.Deviation("stem", picture)(tiny(x, ["stem"])).sum(), x)
    assert gradient.abs().max() < 1e-6  # defined, and zero
    far, near = (
        fv.render(tiny, goal - w * zoo.Deviation("stem", picture), image=picture, steps=24, progress=False).images
        for w in (0, 3 * kappa)
    )
    assert (near - picture).abs().mean() < 0.7 * (far - picture).abs().mean()
    assert (near - picture).abs().mean() > 0


def test_an_isolated_unit_keeps_the_others_natural(tiny: fv.TappedModel) -> None:
    coarse = torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    pictures = F.interpolate(coarse, 24, mode="bilinear")
    mean, sd = zoo.natural_means(tiny, "conv", pictures)
    goals = [fv.Channel("conv", 2), zoo.Isolated("conv", 2, mean, sd, weight=4)]
    images = fv.render(tiny, goals, steps=40, size=24, progress=False).images
    t = (tiny(images, ["conv"])["conv"].mean((2, 3)) - torch.tensor(mean)) / torch.tensor(sd)
    others = t[:, torch.arange(8) != 2].square().mean(1)
    assert t[1, 2] > 1
    assert others[1] < 0.5 * others[0]


BAD: list[tuple[Any, str]] = [
    (lambda a: zoo.ChannelWeights("map", [1.0, 2.0])(a), "has 2 numbers; 'map' has 6 channels"),
    (lambda a: zoo.DirectionNeuron("map", [1.0] * 6, 9, 0)(a), "row 9, column 0 is outside of 'map', which is 5x4"),
    (lambda a: zoo.DirectionNeuron("map", [1.0] * 6, 1), "expected both, from 0, or neither"),
    (lambda a: zoo.LocalGroup("map", [1.0] * 6, 3, 0, 4, 1)(a), "rows 3 to 7, columns 0 to 1 are not inside of 'map'"),
    (lambda a: zoo.TensorDirection("map", torch.zeros(6, 9, 9))(a), "is 9x9; 'map' gives"),
    (lambda a: zoo.TensorDirection("map", [[1.0]]), "expected 3 dimensions"),
    (lambda a: zoo.ChannelWeights("map", ["a"]), "expected numbers"),  # pyright: ignore[reportArgumentType]
    (lambda a: zoo.ChannelWeights("map", [math.nan]), "finite number"),
    (lambda a: zoo.Isolated("map", 9, [0.0] * 6, [1.0] * 6), "a unit among them"),
    (lambda a: zoo.Isolated("map", 1, [0.0] * 6, [0.0] * 6), "deviations above 0"),
    (lambda a: zoo.GateMode("se", [1, 2], [1]), "2 units got 1 weights"),
    (lambda a: zoo.GateMode("map", [9], [1])(fv.Activations({"gate:map": a["map"]}, a.rows)), "unit 9 of 'gate:map'"),
    (lambda a: zoo.FeatureInversion("map", "no such file.png"), "no such file"),
    (lambda a: zoo.FeatureInversion("x", torch.rand(3, 4, 4))(acts(torch.rand(1, 2))), "cannot be paired"),
    (lambda a: zoo.FeatureInversion("map", torch.rand(2, 3, 4, 4))(a), "2 pictures were given for image 2"),
    (lambda a: zoo.Decay(3, 4), "goal=3"),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_explained(make: Any, message: str) -> None:
    with pytest.raises(fv.FeaturevizError, match=message):
        make(make_acts("map", noise(3, 6, 5, 4), noise(1, 6, 5, 4)))
