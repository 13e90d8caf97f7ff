"""The easy entry: images alone or in a batch, snapshots, the best of several, errors, files."""

import math
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.transform import Jitter, Noise, robust
from tests.host_traffic import HostTraffic


def quick(model: fv.TappedModel, goal: Any, **options: Any) -> fv.Rendering:
    return fv.render(model, goal, **{"steps": 6, "size": 24, "progress": False, **options})


@fv.objective
def brightness(a: Tensor, sign: float = 1.0) -> Tensor:
    """How bright a view is."""
    return sign * a.mean((1, 2, 3))


@fv.objective
def blows_up(a: Tensor, limit: float) -> Tensor:
    """NaN once the mean passes ``limit``."""
    mean = a.mean((1, 2, 3))
    return mean + 0 * torch.log(limit - mean)


@fv.objective
def sharp(a: Tensor) -> Tensor:
    """Finite, with an infinite slope."""
    return a.mean((1, 2, 3)) + torch.sqrt((a - a.detach()).sum((1, 2, 3)))


# ------------------------------------------------------------------------------------------------------- row law
@pytest.fixture
def two_threads() -> Iterator[None]:
    """With one thread torch sums a batch of one image in another order than a larger batch, and Adam shows it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_batch_of_eight_units_equals_eight_single_renders(embedded: fv.TappedModel) -> None:
    """The law of the engine: neither the pictures nor the draws of an image depend on its company."""
    site, units = "features.7.block.2", [3, 14, 15, 92, 65, 35, 89, 79]
    together = fv.render(embedded, fv.Gate(site, units), steps=8, size=64, views=2, progress=False)
    for i, unit in enumerate(units):
        alone = fv.render(embedded, fv.Gate(site, unit), image_ids=[i], steps=8, size=64, views=2, progress=False)
        # Half a byte: Adam turns the float noise of tiny gradients into steps.
        assert (alone.images[0] - together.images[i]).abs().max() < 2e-3
        assert torch.allclose(alone.scores[:, 0], together.scores[:, i], rtol=1e-3, atol=1e-4)


def test_image_zero_is_the_same_in_any_batch(tiny: fv.TappedModel) -> None:
    one, many = quick(tiny, "conv:2"), quick(tiny, ["conv:2", "-gate:se:1", "logit:3", "conv:2"])
    assert torch.allclose(one.images[0], many.images[0], atol=1e-5)
    assert torch.allclose(one.scores[:, 0], many.scores[:, 0], atol=1e-5)
    assert torch.allclose(one.held_out.scores[:, 0], many.held_out.scores[:, 0], atol=1e-5)
    assert not torch.allclose(many.images[0], many.images[3], atol=1e-3)


def test_held_out_draws_follow_the_number_not_the_place(tiny: fv.TappedModel) -> None:
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    all_three = fv.evaluate(tiny, "conv:2", images).scores
    last = fv.evaluate(tiny, "conv:2", images[2:], image_ids=[2]).scores
    assert torch.allclose(last[:, 0], all_three[:, 2], atol=1e-6)
    assert not torch.allclose(fv.evaluate(tiny, "conv:2", images[2:]).scores, last, atol=1e-6)
    with pytest.raises(InvalidInput, match="expected one for each image"):
        fv.evaluate(tiny, "conv:2", images, image_ids=[1])


def test_a_seed_repeats_a_render_and_another_does_not(tiny: fv.TappedModel) -> None:
    a, b, c = (quick(tiny, "conv:1", seed=s) for s in (5, 5, 6))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.scores, b.scores)
    assert not torch.equal(a.images, c.images)


# ------------------------------------------------------------------------------------------------------ host traffic
@pytest.mark.parametrize(
    "goal",
    [
        "conv:1",
        "se:[1, 2, 3]",
        "gate:se:[1, 2, 3] - 0.5*conv:2@centre",
        "[conv:1, -gate:se:2, logit:3]",
        "direction:conv:[1, 0, 0, 0, 0, 0, 0, 2]^2",
        "logit:[1, 2, 3] * deepdream:conv",
        'logit:"cat"',
        '2*logit:["cat", 1, "ant"] - conv:1',
    ],
)
def test_a_step_never_waits_for_the_host(tiny: fv.TappedModel, goal: str) -> None:
    objective = fv.parse(goal)
    for image in (fv.FourierImage(objective.n, 24), fv.PixelImage(objective.n, 24)):
        ascent = fv.Ascent(
            tiny, objective, image, transforms=[*robust(), Noise()], views=2, runtime=fv.Runtime(redirect=0)
        )
        ascent.step()  # learns the layers' shapes
        with HostTraffic() as found:
            ascent.step()
        assert found == []


# --------------------------------------------------------------------------------------------------------- climb
CLIMBERS: list[Any] = [
    "features.4:7",
    "features.6:3@centre",
    "direction:features.3:[" + ", ".join(["1", "-1"] * 12) + "]^2",
    "logit:207",
    'logit:"golden retriever"',
    "deepdream:features.5",
    "gate:features.9.block.2:11",
    "-gate:features.9.block.2:11",
    "2*features.4:7 - 0.5*features.3:4",
    "features.4:7*features.3:4",
    brightness("features.4"),
]


@pytest.mark.parametrize("goal", CLIMBERS, ids=str)
def test_every_objective_climbs_beyond_a_random_walk(embedded: fv.TappedModel, goal: Any) -> None:
    """From noise, on held-out views, by a margin over the best of 8 equally long walks with random gradients."""
    objective = goal if isinstance(goal, fv.Objective) else fv.parse(goal)
    made = fv.render(embedded, objective, steps=16, size=64, progress=False)
    walk = fv.FourierImage(8, 64, seed=9)
    optimizer = torch.optim.Adam(walk.parameters(), 0.05)
    generator = torch.Generator().manual_seed(0)
    start = fv.evaluate(embedded, objective, walk().detach()).scores.mean(0)
    for _ in range(16):
        walk.spectrum.grad = torch.randn(walk.spectrum.shape, generator=generator)
        optimizer.step()
    walked = fv.evaluate(embedded, objective, walk().detach()).scores.mean(0)
    gain = made.held_out.scores.mean() - start.mean()
    assert gain > 0
    assert gain > 1.5 * (walked - start).max(), (gain, walked - start)


# ----------------------------------------------------------------------------------------------------- parameters
def test_snapshots_and_traces(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "conv:1", snapshots=[0, 2, 6])
    assert list(made.snapshots) == [0, 2, 6]
    assert torch.equal(made.snapshots[6], made.images)
    assert torch.equal(made.snapshots[0], fv.FourierImage(1, 24)().detach())
    assert torch.equal(made.snapshots[2], quick(tiny, "conv:1", steps=2).images)
    assert made.scores.shape == (6, 1)
    assert made.images.dtype == torch.float32
    assert made.images.min() >= 0
    assert made.images.max() <= 1
    assert made.held_out.scores.shape == (16, 1)
    assert "conv:1" in repr(made)
    assert (made.spec, made.seed, made.versions["featureviz"]) == ("conv:1", 0, fv.__version__)


def test_the_best_of_several_is_chosen_for_each_image(tiny: fv.TappedModel) -> None:
    tries = [quick(tiny, ["conv:2", "conv:5"], seed=4 + k * 1_000_003) for k in range(3)]
    best = fv.best_of(3, tiny, ["conv:2", "conv:5"], seed=4, snapshots=[3], steps=6, size=24, progress=False)
    goal = fv.Channel("conv", [2, 5])
    scores = torch.stack([fv.evaluate(tiny, goal, t.images, seed=5).scores.mean(0) for t in tries])
    for i in range(2):
        winner = int(scores[:, i].argmax())
        assert torch.allclose(best.images[i], tries[winner].images[i])
        assert torch.allclose(best.scores[:, i], tries[winner].scores[:, i])
        assert best.recipe_of(i)["seed"] == best.recipe["seeds"][i] == 4 + winner * 1_000_003
    judged = fv.evaluate(tiny, goal, best.images, seed=4).scores
    assert torch.allclose(best.held_out.scores, judged)
    assert best.snapshots[3].shape == best.images.shape


def test_image_optimizer_transforms_and_device_are_the_callers(tiny: fv.TappedModel) -> None:
    pixel = quick(tiny, "conv:1", image=lambda n, size, **how: fv.PixelImage(n, (20, 30), **how), transforms=[])
    assert pixel.images.shape == (1, 3, 20, 30)
    start = fv.PixelImage(2, image=torch.rand(3, 24, 24))
    before = start.pixels.detach().clone()
    made = quick(tiny, "conv:1", image=start, optimizer=lambda leaves: torch.optim.SGD(leaves, lr=0.1), device="cpu")
    assert torch.equal(start.pixels, before)
    assert len(made) == 2
    assert "lambda" in made.recipe["optimizer"]
    noisy = quick(tiny, "conv:1", transforms=[Jitter(2), Noise(0.1)], views=3)
    assert noisy.recipe["transforms"] == ["Jitter(2)", "Noise(0.1)"]
    with torch.no_grad():
        assert quick(tiny, "conv:1").scores[-1] > quick(tiny, "conv:1").scores[0]
    with torch.inference_mode():
        assert quick(tiny, "conv:1").scores[-1] > -math.inf


class Palette(fv.Parameterization):
    """A user's own parameterization: a soft choice among colours at each pixel."""

    def __init__(self, n: int, size: int, colours: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(n, colours, size, size, generator=generator))
        self.palette = nn.Parameter(torch.rand(n, colours, 3, generator=generator))

    def forward(self) -> Tensor:
        return torch.einsum("nkhw,nkc->nchw", self.logits.softmax(1), self.palette.sigmoid())


def test_an_own_parameterization_renders(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "conv:1", image=lambda n, size, **_: Palette(n, size), steps=20)
    assert made.scores[-1] > made.scores[0]


def test_other_channel_counts() -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh()), channels=1, size=16)
    made = quick(model, "0:2", size=16)
    assert made.images.shape == (1, 1, 16, 16)
    assert made.scores[-1] > made.scores[0]


def test_non_square_images_keep_their_shape(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "conv:1", size=(24, 36))
    assert made.images.shape == (1, 3, 24, 36)


def test_a_picture_to_start_from(tiny: fv.TappedModel) -> None:
    picture = torch.rand(2, 3, 20, 28)
    made = quick(tiny, "deepdream:conv", image=picture, snapshots=[0])
    assert (made.snapshots[0] - picture).abs().max() < 1e-3
    assert made.recipe["size"] == [20, 28]
    assert quick(tiny, "[conv:1, conv:2, conv:3]", image=picture[0]).images.shape == (3, 3, 20, 28)
    pixel = quick(tiny, "conv:1", image=fv.PixelImage, seed=7)
    assert pixel.images.shape == (1, 3, 24, 24)
    assert pixel.recipe["image"] == "PixelImage"
    assert torch.equal(
        quick(tiny, "conv:1", image=fv.PixelImage, seed=7, steps=0).images, fv.PixelImage(1, 24, seed=7)()
    )


def test_frozen_leaves_stay(tiny: fv.TappedModel) -> None:
    palette = Palette(1, 24)
    palette.palette.requires_grad_(False)
    ascent = fv.Ascent(tiny, fv.parse("conv:1"), palette, steps=3)
    before = palette.palette.clone()
    ascent.run(3)
    assert torch.equal(before, palette.palette)
    with pytest.raises(InvalidInput, match="was made for 3"):
        ascent.run(1)


def test_objectives_across_a_batch_are_not_split(tiny: fv.TappedModel) -> None:
    class Rank(fv.Objective):
        """Of how many images a batch has, a function of the batch."""

        def __init__(self) -> None:
            super().__init__(["conv"], across_batch=True)

        def forward(self, activations: fv.Activations) -> Tensor:
            a = activations["conv"].flatten(1)
            return a.mean(1) * 0 + len(activations.rows.images)

    goal = fv.Channel("conv", list(range(7))) + Rank() * 2
    assert goal.across_batch
    images = torch.rand(7, 3, 24, 24)
    scores = (
        fv.evaluate(tiny, goal, images).scores - fv.evaluate(tiny, fv.Channel("conv", list(range(7))), images).scores
    )
    assert torch.allclose(scores, torch.full((16, 7), 14.0), atol=1e-5)
    whole = fv.best_of(2, tiny, goal, steps=6, size=24, progress=False)
    tries = [quick(tiny, goal, seed=k * 1_000_003).images for k in range(2)]
    assert any(torch.allclose(whole.images, t) for t in tries)


def test_a_plain_network_is_told_to_be_wrapped() -> None:
    net: Any = nn.Conv2d(3, 4, 3)
    picture = torch.rand(1, 3, 8, 8)
    for call in (fv.layers, fv.gates, lambda n: fv.render(n, "0:1"), lambda n: fv.evaluate(n, "a:1", picture)):
        with pytest.raises(InvalidInput, match="a Conv2d was given for the model; wrap it first"):
            call(net)


# -------------------------------------------------------------------------------------------------------- trouble
def test_a_non_finite_score_stops_and_names_step_and_term(tiny: fv.TappedModel) -> None:
    goal = fv.Channel("conv", 1) + 5 * brightness("input") + blows_up("input", 0.52)
    still: dict[str, Any] = {
        "optimizer": fv.Adam(0.01),
        "transforms": robust(),
    }  # without a schedule
    with pytest.raises(fv.NonFinite, match="the score of blows_up") as caught:
        quick(tiny, goal, steps=400, **still)
    error = caught.value
    assert 0 < error.step < 400
    assert f"step {error.step}" in str(error)
    assert error.rendering is not None
    assert torch.isfinite(error.rendering.images).all()
    assert len(error.rendering.scores) == error.step
    assert torch.equal(error.rendering.images, quick(tiny, goal, steps=error.step, **still).images)


def test_a_non_finite_gradient_is_named(tiny: fv.TappedModel) -> None:
    with pytest.raises(fv.NonFinite, match="the gradient of sharp"):
        quick(tiny, fv.Channel("conv", 1) + sharp("conv"))


def test_nan_weights_are_named(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_parameter("stem.0.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(fv.NonFinite, match=r"weights 'stem\.0\.weight' are not finite"):
        quick(fv.wrap(net, size=24), "conv:1")
    with pytest.raises(fv.FeaturevizError, match="NaN weights"):
        quick(fv.wrap(net, size=24), "gate:se:1")


def test_control_c_returns_what_there_is(tiny: fv.TappedModel) -> None:
    @fv.objective
    def impatient(a: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return a.mean((1, 2, 3))

    calls: list[int] = []
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without it
    try:
        made = fv.best_of(3, tiny, impatient("conv"), steps=50, size=24, progress=False)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert made.interrupted
    assert len(made.scores) == 4  # the step ends before Ctrl-C is honoured
    assert torch.isfinite(made.held_out.scores).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1"),
        ({"views": 0}, "views=0"),
        ({"optimizer": "sgd"}, r"expected fv\.Adam\(0\.05\), or a function"),
        ({"snapshots": [7]}, r"snapshots\[0\]=7 was given; expected a whole number from 0 to 6"),
        ({"device": "nonsense"}, "device='nonsense' cannot be used"),
        ({"image_ids": [1, 2], "image": fv.PixelImage(3, 24)}, "was given for 3 images"),
        ({"size": 0}, "at least 1 pixel"),
        ({"image": lambda n, size, **_: fv.PixelImage(n + 1, 8)}, "gave PixelImage of 2; expected 1 images"),
    ],
)
def test_bad_options_are_named(tiny: fv.TappedModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        quick(tiny, "conv:1", **options)


def test_bad_parts_of_options_are_named(tiny: fv.TappedModel) -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: fv.best_of(0, tiny, "conv:1"), "n=0"), (lambda: fv.Adam(0.0), r"lr=0\.0"),
        (lambda: fv.Runtime(redirect=-1), "redirect=-1"), (lambda: fv.Runtime(compile="yes"), "compile='yes'"),  # type: ignore
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(InvalidInput, match=message):
            call()


def test_a_factory_is_given_the_numbers_of_the_images(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "conv:1", image=fv.PixelImage, image_ids=[3], steps=0)
    assert torch.equal(made.images, fv.PixelImage(1, 24, image_ids=[3])())
    assert torch.equal(made.images[0], fv.PixelImage(4, 24)()[3])


def test_bad_objectives_are_named(tiny: fv.TappedModel) -> None:
    @fv.objective
    def scalar(a: Tensor) -> Tensor:
        return a.mean()

    @fv.objective
    def constant(a: Tensor) -> Tensor:
        return torch.ones(len(a))

    with pytest.raises(InvalidInput, match=r"expected \[1\], one a view"):
        quick(tiny, scalar("conv"))
    with pytest.raises(InvalidInput, match="does not depend on the image"):
        quick(tiny, constant("conv"))
    with pytest.raises(InvalidInput, match="17 was given; expected an objective or a spec"):
        quick(tiny, 17)
    with pytest.raises(InvalidInput, match="describes 3 images; 2 were given"):
        quick(tiny, fv.Channel("conv", [1, 2, 3]), image=fv.PixelImage(2, 24))


def test_progress_shows_score_and_rate(tiny: fv.TappedModel, capsys: pytest.CaptureFixture[str]) -> None:
    quick(tiny, "conv:1", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "score=" in shown.err
    assert "images/s=" in shown.err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("no_tf32")
def test_cuda_renders_what_the_cpu_renders(embedded: fv.TappedModel) -> None:
    goal = fv.Gate("features.7.block.2", [3, 14])
    here = fv.render(embedded, goal, steps=10, size=64, progress=False)
    there = fv.render(embedded, goal, steps=10, size=64, device="cuda", progress=False)
    assert embedded.device.type == "cpu"
    assert torch.allclose(here.scores, there.scores, rtol=1e-2, atol=1e-2)
