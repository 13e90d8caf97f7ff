"""The rolling batch: an image is its own in any company, ends on its own plateau, and its trouble is its own."""

import json
import math
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.cli import main
from featureviz.errors import InvalidInput
from featureviz.optim import RowAdam
from featureviz.plateau import Plateau
from featureviz.roll import roll
from featureviz.rolling import Climb
from featureviz.traffic import host_traffic

SOON = Plateau(patience=1, tolerance=0.5, window=4, at_least=4)


def rolled(model: fv.TappedModel, goals: Any, **options: Any) -> fv.Rendering:
    return roll(model, goals, **{"steps": 24, "size": 24, "batch": 3, "redirect": 3, "progress": False, **options})


def alone(model: fv.TappedModel, made: fv.Rendering, i: int, lr: float = 0.05, **options: Any) -> fv.Rendering:
    """Image i by render. Under the same Adam, for the float noise of another one grows from step to step."""
    own = {"steps": made.recipe["steps done"][i], "numbers": [made.recipe["numbers"][i]]}
    adam = partial(RowAdam, lr=lr)
    return fv.render(
        model, made.specs[i], size=24, optimizer=adam, **{"redirect": 3, "progress": False, **own, **options}
    )


@fv.objective
def wall(a: Tensor, limit: float) -> Tensor:
    """The mean, NaN from ``limit`` on."""
    mean = a.mean((1, 2, 3))
    return mean + 0 * torch.log(limit - mean)


# ------------------------------------------------------------------------------------------------------------ Adam
def leaves_of(n: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, *shape, generator=generator)) for shape in ((3, 4, 2), (5,), ())]


def gradients(step: int, n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [10.0**-step * torch.randn(n, *shape, generator=generator) for shape in ((3, 4, 2), (5,), ())]


@pytest.mark.parametrize("options", [{}, {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3}, {"betas": (0.0, 0.999)}])
def test_rows_of_one_age_move_as_under_torchs_adam(options: Any) -> None:
    mine, theirs = leaves_of(4), leaves_of(4)
    optimizers = RowAdam(mine, **options), torch.optim.Adam(theirs, **options)
    for step in range(9):
        for optimizer, leaves in zip(optimizers, (mine, theirs), strict=True):
            rate = 0.1 / (step + 1)  # as a schedule would; a tensor, as a captured step wants it
            optimizer.param_groups[0]["lr"] = (
                torch.tensor(rate) if isinstance(optimizer, RowAdam) and step % 2 else rate
            )
            for leaf, gradient in zip(leaves, gradients(step, 4), strict=True):
                leaf.grad = gradient
            optimizer.step()
        for a, b in zip(mine, theirs, strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_row_goes_on_alone_where_it_left_the_batch() -> None:
    whole = leaves_of(4)
    optimizer = RowAdam(whole, lr=0.1)

    def move(optimizer: RowAdam, leaves: list[nn.Parameter], rows: Sequence[int], steps: range) -> None:
        for step in steps:
            for leaf, gradient in zip(leaves, gradients(step, 4), strict=True):
                leaf.grad = gradient[list(rows)]
            optimizer.step()

    move(optimizer, whole, range(4), range(5))
    left = [nn.Parameter(leaf[[2, 0]].detach().clone()) for leaf in whole]
    other = RowAdam(left, lr=0.1)
    other.put([optimizer.rows()[2], optimizer.rows()[0]])
    move(optimizer, whole, range(4), range(5, 9))
    move(other, left, [2, 0], range(5, 9))
    for a, b in zip(whole, left, strict=True):
        assert torch.equal(a[[2, 0]], b)
    kept = optimizer.rows()
    move(optimizer, whole, range(4), range(9, 10))
    assert kept[0][0]["step"].item() == 9  # a copy
    young = RowAdam(leaves_of(2), lr=0.1)
    young.put([kept[0], RowAdam(leaves_of(1)).rows()[0]])  # of two ages
    assert [row[0]["step"].item() for row in young.rows()] == [9, 0]
    with pytest.raises(InvalidInput, match="4 rows were given for a leaf"):
        young.put(kept)
    with pytest.raises(InvalidInput, match="one row an image"):
        RowAdam([nn.Parameter(torch.tensor(1.0))])
    with pytest.raises(InvalidInput, match="betas in"):
        RowAdam(leaves_of(1), betas=(0.9, 1.0))


def test_a_step_of_it_never_waits_for_the_host(tiny: fv.TappedModel) -> None:
    ascent = fv.Ascent(tiny, fv.Channel("conv", [1, 2]), fv.FourierImage(2, 24), optimizer=RowAdam, start=[3, 9])
    ascent.step()
    with host_traffic() as found:
        ascent.step()
    assert found == []


# --------------------------------------------------------------------------------------------------------- plateau
def curve(noise: float = 0.0) -> Tensor:
    """A rise of 1 that slows down, with a hundredth of it left after 230 steps; and views that differ."""
    t = torch.arange(512.0)
    return 1 - torch.exp(-t / 50) + noise * torch.randn(512, generator=torch.Generator().manual_seed(0))


def ends(scores: Tensor, plateau: Plateau) -> int:
    return next((t for t in range(plateau.window, 513, plateau.window) if plateau.reached(scores[:t])), 513)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_a_plateau_is_where_it_is_in_any_unit(noise: float) -> None:
    scores, plateau = curve(noise), Plateau()
    end = ends(scores, plateau)
    assert 200 < end < 513
    for other in (1e-3 * scores, 50 * scores - 80, scores - 0.5):  # logits of gates are of any sign
        assert ends(other, plateau) == end


def test_what_still_rises_is_not_finished() -> None:
    t = torch.arange(512.0)
    noise = 0.1 * torch.randn(512, generator=torch.Generator().manual_seed(1))
    assert ends(t / 512 + noise, Plateau()) == 513
    assert ends(-3 + (t + 1).log() / 6, Plateau(tolerance=0.01)) == 513


def test_patience_tolerance_and_a_least_age() -> None:
    scores = curve()
    assert ends(scores, Plateau(patience=8)) > ends(scores, Plateau(patience=4)) > ends(scores, Plateau(patience=1))
    assert ends(scores, Plateau(tolerance=0.001)) > ends(scores, Plateau(tolerance=0.1))
    dead = torch.zeros(512)
    assert ends(dead, Plateau(at_least=200)) == 208
    assert ends(-curve(), Plateau(at_least=0)) == 16 * 7  # falls from the first window on
    with pytest.raises(InvalidInput, match="patience=0"):
        Plateau(patience=0)
    with pytest.raises(InvalidInput, match="tolerance=nan"):
        Plateau(tolerance=math.nan)


# ------------------------------------------------------------------------------------------------------ the row law
UNITS = ["conv:1", "-gate:se:2", "conv:3", "logit:4", "conv:5", "conv:6@centre", "conv:7"]


def test_an_image_is_what_it_is_alone_whoever_shares_its_batch(tiny: fv.TappedModel) -> None:
    made = rolled(tiny, UNITS, plateau=SOON, views=2, steps=36)
    steps = made.recipe["steps done"]
    assert len(set(steps)) > 2
    assert max(steps) < 36  # so that ages in a batch did differ
    for i, done in enumerate(steps):
        own = alone(tiny, made, i, views=2)
        assert (own.images[0] - made.images[i]).abs().max() < 1e-4
        assert torch.allclose(own.scores[:, 0], made.scores[:done, i], rtol=1e-3, atol=1e-4)
        assert bool(made.scores[done:, i].isnan().all())
    assert made.scores.shape == (max(steps), 7)


@pytest.mark.parametrize("batch", [1, 2, 7, 20])
def test_neither_the_batch_nor_the_order_matters(tiny: fv.TappedModel, batch: int) -> None:
    options: dict[str, Any] = {"plateau": SOON, "steps": 22}  # which windows of 4 behind 3 do not divide
    base = rolled(tiny, UNITS, **options)
    order = [4, 0, 6, 2, 1, 5, 3]
    made = rolled(tiny, [UNITS[i] for i in order], numbers=order, batch=batch, **options)
    assert made.recipe["steps done"] == [base.recipe["steps done"][i] for i in order]
    assert (made.images - base.images[order]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("steps", "betas"), [(0, (0.9, 0.999)), (2, (0.9, 0.999)), (3, (0.5, 0.99)), (21, (0.5, 0.99))]
)
def test_without_a_plateau_it_is_render(tiny: fv.TappedModel, steps: int, betas: tuple[float, float]) -> None:
    goal = fv.Channel("conv", [1, 2, 3, 4, 5])
    options: dict[str, Any] = {"steps": steps, "numbers": [0, 0, 7, 8, 9]}
    made = rolled(tiny, goal, betas=betas, **options)
    same = fv.render(tiny, goal, size=24, redirect=3, optimizer=fv.adam(0.05, betas), progress=False, **options)
    assert (made.images - same.images).abs().max() < 1e-3
    assert torch.allclose(made.scores, same.scores, rtol=1e-3, atol=1e-4)
    assert torch.allclose(made.held_out.scores, same.held_out.scores, rtol=1e-3, atol=1e-3)
    assert made.specs == same.specs
    assert {**made.recipe, "steps done": steps} == same.recipe


def test_redirection_is_for_newcomers_alone() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    nn.init.constant_(conv.get_parameter("bias"), -100.0)  # dead on every image: only redirected gradients pass
    model = fv.wrap(nn.Sequential(conv, nn.ReLU()), size=24)
    goals = ["1:1 + input:0", "1:2", "1:3"]
    made = rolled(model, goals, batch=2, plateau=Plateau(1, 0.0, 4, 8), steps=24, transforms=[])
    first, *others = made.recipe["steps done"]
    assert first > others[0] == others[1]  # the third came in while the first climbed
    for i in range(3):
        own, other = (alone(model, made, i, redirect=r, transforms=[]) for r in (3, 24))
        assert (own.images[0] - made.images[i]).abs().max() < 1e-4
        assert (other.images[0] - made.images[i]).abs().max() > 5e-2


def test_many_images_of_one_goal_and_an_image_of_ones_own(tiny: fv.TappedModel) -> None:
    class Palette(fv.Parameterization):
        """A soft choice among four colours that stay."""

        def __init__(self, n: int, size: int, seed: int, numbers: Sequence[int]) -> None:
            super().__init__()
            self.logits = nn.Parameter(fv.Rng(seed, torch.tensor(numbers)).normal((4, size, size)))
            self.palette = nn.Parameter(fv.Rng(seed + 1, torch.tensor(numbers)).normal((4, 3)), requires_grad=False)

        def forward(self) -> Tensor:
            return torch.einsum("nkhw,nkc->nchw", self.logits.softmax(1), self.palette.sigmoid())

    made = rolled(tiny, "deepdream:conv", numbers=[5, 6, 7, 8], image=Palette, plateau=SOON)
    assert len(made) == 4
    for i in (0, 3):
        own = alone(tiny, made, i, image=Palette(1, 24, 0, [5 + i]))
        assert (own.images[0] - made.images[i]).abs().max() < 1e-4

    class Shared(Palette):
        """All images of one palette."""

        def __init__(self, n: int, size: int, seed: int, numbers: Sequence[int]) -> None:
            super().__init__(n, size, seed, numbers)
            self.palette = nn.Parameter(torch.zeros(4, 3))

    with pytest.raises(InvalidInput, match="expected a row each"):
        rolled(tiny, UNITS, image=Shared)


# --------------------------------------------------------------------------------------------------------- trouble
def test_an_image_that_goes_wrong_ends_alone(tiny: fv.TappedModel) -> None:
    goals: list[Any] = [*UNITS[:2], fv.Channel("conv", 2) + 5 * wall("input", 0.52), *UNITS[4:], wall("conv", -9.0)]
    seen: list[Climb] = []
    options: dict[str, Any] = {"plateau": Plateau(1, 0.1, 4, 8), "lr": 0.02, "steps": 60}
    with pytest.raises(fv.NonFinite, match=r"wall.*the score of wall.* \(1 more images ended like this\)") as caught:
        rolled(tiny, goals, on=seen.append, **options)
    made, error = caught.value.rendering, caught.value
    assert made is not None
    assert torch.isfinite(made.images).all()
    assert sorted(climb.goal for climb in seen) == list(range(7))
    assert made.recipe["steps done"][2] == error.step
    assert 3 < error.step < 60
    assert made.recipe["steps done"][6] == 0
    for i in (0, 1, 3, 4):  # the others went on as if nothing had been
        own = rolled(tiny, [UNITS[i if i < 2 else i + 1]], numbers=[i], **options)
        assert own.recipe["steps done"][0] == made.recipe["steps done"][i]
        assert (own.images[0] - made.images[i]).abs().max() < 1e-4
    with pytest.raises(fv.NonFinite) as first:
        fv.render(tiny, goals[2], numbers=[2], lr=0.02, steps=60, size=24, redirect=3, progress=False)
    assert first.value.step == error.step
    assert first.value.rendering is not None
    assert (first.value.rendering.images[0] - made.images[2]).abs().max() < 1e-3


def test_the_last_one_left_goes_on_where_it_was(tiny: fv.TappedModel) -> None:
    options: dict[str, Any] = {"lr": 0.02, "steps": 60, "batch": 2, "plateau": None}
    with pytest.raises(fv.NonFinite) as caught:
        rolled(tiny, [fv.Channel("conv", 2) + 5 * wall("input", 0.52), "conv:1"], **options)
    made = caught.value.rendering
    assert made is not None
    assert made.recipe["steps done"] == [caught.value.step, 60]
    own = alone(tiny, made, 1, lr=0.02)
    assert (own.images[0] - made.images[1]).abs().max() < 1e-4


def test_nan_weights_end_every_image(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_parameter("stem.0.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(fv.NonFinite, match=r"step 0: .*weights 'stem\.0\.weight' are not finite.*3 more") as caught:
        rolled(fv.wrap(net, size=24), ["conv:1", "conv:2", "conv:3", "conv:4"])
    assert caught.value.rendering is not None
    assert len(caught.value.rendering) == 4


@pytest.fixture
def interruptible() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without it
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
def test_control_c_returns_what_has_entered(tiny: fv.TappedModel) -> None:
    @fv.objective
    def impatient(a: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 15:
            signal.raise_signal(signal.SIGINT)
        return a.mean((1, 2, 3))

    calls: list[int] = []
    made = rolled(tiny, impatient("conv"), numbers=range(7), batch=2, steps=8)
    assert made.interrupted
    assert len(made) == 4
    steps = made.recipe["steps done"]
    assert steps[:2] == [8, 8]
    assert 0 < steps[2] == steps[3] < 8
    for i in (0, 3):
        own = fv.render(tiny, impatient("conv"), numbers=[i], steps=steps[i], size=24, redirect=3, progress=False)
        assert (own.images[0] - made.images[i]).abs().max() < 1e-4


@pytest.mark.usefixtures("interruptible")
def test_control_c_behind_a_step_that_went_wrong_keeps_what_was_before(tiny: fv.TappedModel) -> None:
    @fv.objective
    def worse(a: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 14:
            signal.raise_signal(signal.SIGINT)
        return a.mean((1, 2, 3)) * (math.nan if 12 <= len(calls) <= 14 else 1)

    calls: list[int] = []
    made = rolled(tiny, worse("conv"), steps=3 + 16, batch=2)
    assert made.interrupted
    assert made.recipe["steps done"] == [3]
    assert made.scores.shape == (3, 1)
    assert torch.isfinite(made.scores).all()
    assert torch.isfinite(made.images).all()


@pytest.mark.parametrize(
    ("goals", "options", "message"),
    [
        (UNITS, {"batch": 0}, "batch=0"),
        (UNITS, {"lr": 0.0}, "lr=0.0"),
        (UNITS, {"steps": -1}, "steps=-1"),
        (UNITS, {"numbers": [1, 2]}, r"numbers=\[1, 2\] was given for 7 images"),
        ([*UNITS, "conv:99"], {}, "channel 99 of 'conv' was asked for"),
    ],
)
def test_bad_options_are_named(tiny: fv.TappedModel, goals: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        rolled(tiny, goals, **options)


def test_images_that_depend_on_each_other_are_refused(tiny: fv.TappedModel) -> None:
    class Rank(fv.Objective):
        """Of how many images a batch has."""

        def __init__(self) -> None:
            super().__init__(["conv"], across_batch=True)

        def forward(self, activations: fv.Activations) -> Tensor:
            return activations["conv"].flatten(1).mean(1) * len(activations.rows.images)

    with pytest.raises(InvalidInput, match="looks at the other images"):
        rolled(tiny, fv.Channel("conv", [1, 2]) + Rank())


def test_the_callers_network_and_mode_are_left_alone(net: nn.Module) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = fv.wrap(net, size=24)
    with torch.inference_mode():
        made = rolled(model, UNITS[:1], steps=4)
    assert made.scores[-1] > made.scores[0]
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not model.hooked


def test_a_gallery_with_patience_ends_each_tile_by_itself(tmp_path: Path) -> None:
    specs = ["features.3:[4, 5, 6]", "logit:3", "2*features.3:4 - features.2:1"]
    options = ["--out", str(tmp_path / "out"), "--steps", "160", "--size", "32", "--batch", "2", "--patience", "1"]
    assert main(["render", "embedded", *specs, *options]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [unit["spec"] for unit in report["units"]] == ["features.3:4", "features.3:5", "features.3:6", *specs[1:]]
    assert min(unit["steps"] for unit in report["units"]) < 160
    unit = min(report["units"], key=lambda unit: unit["steps"])
    recipe = fv.read_recipe(tmp_path / "out" / unit["file"])
    assert recipe["steps done"] == unit["steps"]
    again = fv.render(fv.load("embedded"), recipe["spec"], numbers=[0], steps=unit["steps"], size=32, progress=False)
    own = sum(unit["score"]) / 16  # of other held-out views where others come before it
    assert again.held_out.scores.mean().item() == pytest.approx(own, rel=0.05)
    assert "at most 160 steps" in (tmp_path / "out/index.html").read_text()
    assert main(["render", "embedded", "features.3:4", "--patience", "2", "--fast", "--out", str(tmp_path / "no")]) == 2
