"""Coarse to fine, learning rates that change, and the preset made of what won."""

import pytest
import torch

import featureviz as fv
from featureviz.coarse import decoded, grow
from featureviz.errors import InvalidInput
from featureviz.fast import Landing
from featureviz.gallery.specs import _compiles


@pytest.mark.parametrize(("old", "new"), [((8, 8), (16, 16)), ((7, 9), (21, 9)), ((6, 10), (18, 30)), ((5, 4), (5, 8))])
@pytest.mark.parametrize("decay", [1.0, 1.5])
def test_a_grown_image_shows_the_same_picture(old: tuple[int, int], new: tuple[int, int], decay: float) -> None:
    """Where a pixel of the small one coincides with one of the large one, they are equal."""
    image = fv.FourierImage(2, old, decay=decay, sd=0.2, seed=3)
    before = image().detach()
    image.grow(new)
    after = image().detach()
    assert after.shape == (2, 3, *new)
    assert torch.allclose(after[..., :: new[0] // old[0], :: new[1] // old[1]], before, atol=1e-5)


def test_growing_adds_no_frequency() -> None:
    image = fv.FourierImage(1, (9, 9), sd=0.2)
    image.grow((20, 30))
    fine = image.spectrum.detach().clone()
    fine[..., :5, :5, :] = 0
    fine[..., -4:, :5, :] = 0
    assert fine.abs().max() == 0
    with pytest.raises(InvalidInput, match="not smaller"):
        image.grow((9, 9))


def test_the_optimizer_remembers(tiny: fv.TappedModel) -> None:
    """Adam's averages follow their coefficients, in the units of the grown leaf."""
    ascent = fv.Ascent(tiny, fv.Channel("conv", 1), fv.FourierImage(1, (9, 15), decay=1.5), capacity=9)
    ascent.run(4)
    picture, before = ascent.images(), ascent.leaves[0].detach().clone()
    averages = {k: v.clone() for k, v in ascent.optimizer.state[ascent.leaves[0]].items()}
    grow(ascent, (18, 30))
    leaf = ascent.leaves[0]
    state = ascent.optimizer.state[leaf]
    factor = leaf.detach()[..., :5, :8, :] / before[..., :5, :, :]
    assert torch.allclose(ascent.images()[..., ::2, ::2], picture, atol=1e-5)
    assert torch.allclose(state["exp_avg"][..., :5, :8, :] * factor, averages["exp_avg"][..., :5, :, :], rtol=1e-3)
    assert torch.allclose(
        state["exp_avg_sq"][..., :5, :8, :] * factor**2, averages["exp_avg_sq"][..., :5, :, :], rtol=1e-3
    )
    assert state["step"] == averages["step"]
    ascent.run(5)
    assert not torch.equal(leaf[..., 8:12, 9:, :], torch.zeros_like(leaf[..., 8:12, 9:, :]))  # the fine ones move


def test_coarse_steps_show_the_network_small_views(net: torch.nn.Module) -> None:
    seen: list[tuple[int, ...]] = []

    def enter(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[-2:]))
        return net(x)

    model = fv.wrap(net, size=32, enter=enter)
    goal = fv.Channel("conv", [1, 2])
    fv.render(model, goal, size=40, steps=2, coarse=[(1, 0.5)], progress=False)  # learns the layers at both sizes
    seen.clear()
    made = fv.render(model, goal, size=40, steps=6, coarse=[(4, 0.5)], snapshots=[0, 2, 5], progress=False)
    sizes = [size for size in seen if size in ((16, 16), (32, 32))]
    assert sizes[:4] == [(16, 16)] * 4
    assert sizes[4:6] == [(32, 32)] * 2
    assert made.images.shape == (2, 3, 40, 40)
    assert {kept.shape for kept in made.snapshots.values()} == {(2, 3, 40, 40)}
    assert made.recipe["coarse"] == [[4, 0.5]]
    assert made.scores.shape == (6, 2)
    assert bool(torch.isfinite(made.scores).all())


def test_a_started_picture_keeps_its_size_while_coarse(tiny: fv.TappedModel) -> None:
    picture = torch.rand(3, 30, 26)
    made = fv.render(tiny, "conv:1", image=picture, steps=3, coarse=[(2, 0.5)], progress=False)
    assert made.images.shape == (1, 3, 30, 26)


@pytest.mark.parametrize("coarse", [[(4, 1.0)], [(0, 0.5)], [(2, 0.5), (2, 0.25)], [(9, 0.5)], [(2, 0.0)]])
def test_phases_that_make_no_sense(tiny: fv.TappedModel, coarse: list[tuple[int, float]]) -> None:
    with pytest.raises(InvalidInput, match="rising shares below 1"):
        fv.render(tiny, "conv:1", steps=8, coarse=coarse, progress=False)


def test_images_can_be_looked_at_while_they_are_small(tiny: fv.TappedModel) -> None:
    ascent = fv.Ascent(tiny, fv.Channel("conv", 1), fv.FourierImage(1, 12))
    assert decoded(ascent, (24, 24)).shape == (1, 3, 24, 24)
    assert ascent.images().shape == (1, 3, 12, 12)


def test_a_schedule_sets_each_step(tiny: fv.TappedModel) -> None:
    """With no rate nothing moves; a rate of any optimizer is followed."""
    started = fv.FourierImage(1, 24)().detach()
    still = fv.render(tiny, "conv:1", steps=4, size=24, lr=lambda share: 0.0 * share, optimizer=sgd, progress=False)
    assert torch.allclose(still.images, started)
    used: list[float] = []

    def rate(share: float) -> float:
        used.append(share)
        return 0.05

    fv.render(tiny, "conv:1", steps=4, size=24, lr=rate, optimizer=sgd, progress=False)
    assert used == [0.0, 0.25, 0.5, 0.75]


def sgd(leaves: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(leaves, lr=1.0)


def test_a_constant_schedule_is_a_constant(tiny: fv.TappedModel) -> None:
    plain = fv.render(tiny, "conv:1", steps=4, size=24, lr=0.1, progress=False)
    scheduled = fv.render(tiny, "conv:1", steps=4, size=24, lr=lambda share: 0.1 + 0 * share, progress=False)
    assert torch.equal(plain.images, scheduled.images)


def test_the_recipe_names_what_fast_does(tiny: fv.TappedModel) -> None:
    made = fv.render(tiny, "conv:1", **fv.fast(3), size=24, progress=False)
    assert made.recipe["optimizer"] == "adam lr 0.05 betas 0.5, 0.999, lr by Landing(lr=0.05, share=0.25, end=0.2)"
    assert made.recipe["steps"] == 3
    with pytest.raises(InvalidInput, match="lr > 0"):
        Landing(-1.0)


def test_a_gallery_compiles_only_where_it_pays() -> None:
    """The work of all batches of a shape counts, not that of one."""
    goal = fv.Channel("conv", [1, 2])
    batches: list[tuple[list[int], fv.Objective]] = [([0, 1], goal)] * 30
    assert _compiles(batches, {"steps": 512}) == {(("conv",), 2): True}
    assert _compiles(batches[:3], {"steps": 512}) == {(("conv",), 2): False}
    assert _compiles(batches, {"steps": 512, "compile": False}) == {(("conv",), 2): False}
