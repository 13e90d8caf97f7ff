"""No preset takes a step through the host: every objective, image and transform, plain, redirected and split."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torchvision.models import VisionTransformer

import featureviz as fv
import objectives_zoo as zoo
from featureviz.ascent.host_sync import host_traffic
from featureviz.lab import GateStatistics, SqueezeEllipsoid
from featureviz.lab.gates.co_gating_modes import Along
from featureviz.lab.gates.reachability_study import SqueezeDistance
from featureviz.transform import (
    Blur,
    ColorJitter,
    Crop,
    Flip,
    Homography,
    Jitter,
    Noise,
    NormalizeGradient,
    Roll,
    Rotate,
    Scale,
    Transform,
    Until,
    robust,
)
from tests.ascent.ascents import ascent_of, halved, natural_of, towards
from tests.objectives_zoo.entries import CASES

TRANSFORMS: dict[str, list[Transform]] = {
    "jitter": [Jitter(8)], "scale": [Scale(0.8, 1.2)], "rotate": [Rotate(9)], "flip": [Flip()], "noise": [Noise()],
    "until": [Until(Noise(), 0.5)], "none": [], "all": [*robust(), Flip(), Noise()], "crop": [Crop(0.1, 0.9)],
    "homography": [Homography()], "roll": [Roll(), *robust()], "blur": [Blur()], "colour": [ColorJitter()],
    "gradient": [NormalizeGradient()],
}  # fmt: skip
IMAGES: dict[str, Callable[[int], fv.Parameterization]] = {
    "fourier": lambda n: fv.FourierImage(n, 24), "plain fourier": lambda n: fv.FourierImage(n, 24, decorrelate=False),
    "odd fourier": lambda n: fv.FourierImage(n, (25, 31), decay=1.5), "pixels": lambda n: fv.PixelImage(n, 24),
    "picture": lambda n: fv.FourierImage(n, image=torch.rand(3, 30, 24)), "pyramid": lambda n: fv.PyramidImage(n, 24),
    "shared": lambda n: fv.SharedImage(n, 24), "cppn": lambda n: fv.CPPNImage(n, 24),
    "grey": lambda n: fv.GreyImage(n, 24),
    "alpha": lambda n: fv.AlphaImage(n, 24), "maco": lambda n: fv.MacoImage(n, 24),
    "masked": lambda n: fv.MaskedImage(n, image=torch.rand(3, 24, 24), mask=torch.ones(24, 24)),
    "ball": lambda n: fv.BallImage(n, image=torch.rand(3, 24, 24)),
    "ball of length": lambda n: fv.BallImage(n, image=torch.rand(3, 24, 24), norm="2"),
}  # fmt: skip


def objectives(natural: GateStatistics) -> list[fv.Objective]:
    c, d = fv.Channel("conv", [1, 2]), fv.Channel("conv", 3)
    return [
        c, d, fv.Neuron("conv", [1, 2]), fv.Neuron("conv", 1, 2, 3), fv.Direction("conv", torch.eye(8)[:2], 2),
        fv.Logit([1, "bee"]), fv.DeepDream("stem.0"), fv.Gate("se", [1, 2]), fv.GateValue("se", [1, 2]),
        fv.GatedChannel("se", 1), fv.PreGate("se", [1, 2]), fv.Bottleneck("se", [1, 0]),
        fv.GateContrast("se", [1, 2], natural), fv.GateContrast("se", 3, natural, sign=-1),
        fv.Quadrant("se", [1, 2], natural), fv.Quadrant("se", 1, natural, content="low", gate="shut"),
        Along("se", torch.arange(1.0, 9), torch.zeros(8), 2.0, power=2), 2 * c - fv.Logit(1) / 3 + 1, c * d,
        fv.PerImage([d, -fv.Gate("se", 1)]), towards("conv", torch.arange(8.0)), zoo.interpolation(d, -d, 2),
        *(case.make("conv", 8, torch.rand(3, 24, 24)) for case in CASES.values() if case.images < 3),
        c + zoo.Diversity("conv") + zoo.Alignment("conv"), fv.Token("conv", [1, 2], "max"),
        fv.Token("conv", 1, "patches"),
    ]  # fmt: skip


def linted(ascent: fv.Ascent) -> list[str]:
    ascent.step()  # learns the layers' shapes
    with host_traffic() as found:
        ascent.step()
        ascent.step()
    return found


@pytest.mark.parametrize("redirect", [0, 9])
@pytest.mark.parametrize("views", [1, 3])
def test_no_objective_takes_a_step_through_the_host(
    tiny: fv.TappedModel, views: int, redirect: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featureviz.network.copies.redirect._on_host", lambda tensor: False)  # as on any other device
    natural = natural_of(tiny)
    distance = SqueezeDistance(tiny.gates["se"], SqueezeEllipsoid.fit(natural, "se"))
    table = [*objectives(natural), distance]
    for goal in table:
        image = fv.AlphaImage(2, 24) if ".alpha" in goal.layers else None
        assert linted(ascent_of(tiny, goal, views=views, redirect=redirect, image=image)) == [], goal.spec
    words = fv.dictionary(tiny, "conv", fv.Dictionary(torch.rand(20, 8)), name="words")
    vit = fv.wrap(VisionTransformer(24, 8, 1, 2, 12, 16, num_classes=5), size=24)
    attention = "encoder.layers.encoder_layer_0.self_attention"
    for model, goal in (
        (words, fv.Latent("words", [3, 17])), (vit, fv.Head(attention, 1, [0, 5])),
        (vit, fv.Token("encoder.layers.encoder_layer_0", 3)),
    ):  # fmt: skip
        assert linted(ascent_of(model, goal, views=views, redirect=redirect)) == [], goal.spec
        table.append(goal)
    made = {type(part) for goal in table for part in goal.modules()}
    assert made >= set(final_classes(fv.Objective))  # a new one belongs into the table


@pytest.mark.parametrize("views", [1, 3])
def test_no_image_or_transform_takes_a_step_through_the_host(tiny: fv.TappedModel, views: int) -> None:
    for stages in TRANSFORMS.values():
        assert linted(ascent_of(tiny, "conv:[1, 2]", views=views, transforms=stages)) == [], stages
    for name, make in IMAGES.items():
        assert linted(ascent_of(tiny, "conv:[1, 2]", views=views, image=make(2))) == [], name
    known = {type(t) for stages in TRANSFORMS.values() for t in stages} | {type(make(1)) for make in IMAGES.values()}
    capturable = [t for t in final_classes(Transform) if getattr(t, "capturable", True)]
    assert known >= {*capturable, *final_classes(fv.Parameterization)}


def final_classes(kind: type) -> Iterator[type]:
    """What of this library makes instances of ``kind``."""
    for below in kind.__subclasses__():
        own = below.__module__.startswith(("featureviz.", "objectives_zoo.")) and ".compat." not in below.__module__
        if own and not below.__subclasses__():
            yield below
        yield from final_classes(below)


def test_halved_batches_and_bfloat16_stay_on_the_device(tiny: fv.TappedModel) -> None:
    assert linted(halved(ascent_of(tiny, "gate:se:[1, 2, 3]", 3, views=3, precision="bfloat16"), 3)) == []


def test_the_lint_sees_masks_and_masks_that_set_one_number_are_none() -> None:
    a, mask = torch.rand(4), torch.tensor([True, False, True, False])
    with host_traffic() as found:
        a[mask] = 0.0
        torch.where(mask, a, 0.0)
    assert found == []
    inverse, equal = lambda: torch.linalg.inv((a + 1).diag()), lambda: torch.equal(a, a)
    for wait in (lambda: a[mask], inverse, equal, a.unique, a.tolist):
        with host_traffic() as found:
            wait()
        assert found != []
