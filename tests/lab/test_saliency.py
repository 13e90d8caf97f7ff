"""Saliency: the exact split at a block's gates, gradients, integrated gradients, Grad-CAM, and what is left behind."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, ModelError, UnknownName
from featureviz.lab.attribution import saliency
from featureviz.lab.attribution.gradient_paths import difference, split, splits
from featureviz.models.embedded import embedded_net, natural_gates
from featureviz.nn import CBAM, SEModule
from tests.conftest import TinySE

SITE = "features.8.block.2"


def pictures(n: int, size: int, seed: int = 0) -> Tensor:
    """Smooth coloured noise in [0,1], so that gates see something like pictures."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


class Functional(nn.Module):
    """A gate of bare functions, in place, and content that goes around the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 6), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh()
        y = x.clone()
        y *= torch.sigmoid(4 * self.fc(y.mean((2, 3))))[:, :, None, None]
        return self.head(y + x).square().mean((2, 3))


class ChannelsLast(nn.Module):
    """A gate on maps [N,H,W,C]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh().permute(0, 2, 3, 1)
        x = x * torch.sigmoid(4 * self.fc(x.mean((1, 2))))[:, None, None]
        return self.head(x).square().mean((1, 2))


def small(kind: str) -> fv.TappedModel:
    torch.manual_seed(0)
    nets = {
        "functional": Functional,
        "channels last": ChannelsLast,
        "cbam": lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), CBAM(8, 2), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        "shared": Shared,
        "branches": Branches,
    }
    return fv.wrap(nets[kind](), mean=0.5, std=0.25, size=24)


class Shared(nn.Module):
    """One gated block, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.se, self.head = nn.Conv2d(3, 8, 3), SEModule(8, 2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.se(self.se(self.stem(x))).mean((2, 3)))


class Branches(nn.Module):
    """A gated branch, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.se, self.left, self.right = (
            nn.Conv2d(3, 8, 3),
            SEModule(8, 2),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.left(self.se(x))
        return torch.cat([y, self.right(x)], 1).mean((2, 3))


def plain(net: nn.Module, x: Tensor, unit: int, mean: Tensor | float = 0.5, std: Tensor | float = 0.25) -> Tensor:
    """The gradient of a logit by autograd alone, on the network as the caller has it."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net.eval()((x - mean) / std)[:, unit].sum(), x)[0]


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


# ---------------------------------------------------------------------------------------------------- the exact split
def test_the_split_is_what_autograd_gives_with_either_factor_detached(net: TinySE, tiny: fv.TappedModel) -> None:
    images = pictures(3, 24)
    net.eval()

    def by_hand(content: bool, gate: bool, around: bool) -> Tensor:
        image = images.clone().requires_grad_()
        x = net.stem((image - 0.5) / 0.25)
        g = F.hardsigmoid(net.se.fc2(F.relu(net.se.fc1(x.mean((2, 3), keepdim=True)))))
        y = net.conv((x if content else x.detach()) * (g if gate else g.detach())) + (x if around else x.detach())
        return torch.autograd.grad(net.head(y.mean((2, 3)))[:, 2].sum(), image)[0]

    parts = split(tiny, "logit:cat", images, "se")
    assert far(parts.total, by_hand(True, True, True)) < 1e-5
    assert far(parts.content, by_hand(True, False, True)) < 1e-5
    assert far(parts.gate, by_hand(False, True, False)) < 1e-5  # what goes around the block is content
    assert parts.gate.abs().max() > 1e-3 * parts.total.abs().max()


def test_on_the_embedded_network_the_parts_add_up_to_plain_autograd(embedded: fv.TappedModel) -> None:
    images = pictures(2, 96)
    net = embedded_net()
    net.load_state_dict(embedded.net.state_dict())
    profile = splits(embedded, "logit:285", images)
    assert list(profile) == list(embedded.gates)
    expected = plain(net, images, 285, embedded.mean, embedded.std)
    for parts in profile.values():
        assert far(parts.total, expected) < 1e-5
        assert parts.error < 1e-5
        assert bool(((parts.gate_share > 0) & (parts.gate_share < 1)).all())
    with fv.stop_gradient(embedded, SITE):
        detached = split(embedded, "logit:285", images, SITE)
    assert torch.equal(detached.total, profile[SITE].content)
    assert detached.gate.abs().max() == 0


@pytest.mark.parametrize("kind", ["functional", "channels last", "cbam"])
def test_every_kind_of_gate_is_split(kind: str) -> None:
    model, images = small(kind), pictures(2, 24)
    torch.manual_seed(0)
    assert len(model.gates) == (2 if kind == "cbam" else 1)
    for name, parts in splits(model, "logit:1", images).items():
        assert parts.error < 1e-5
        assert (parts.gate_share > 1e-3).all()
        with fv.stop_gradient(model, name):
            assert far(split(model, "logit:1", images, name).total, parts.content) < 1e-6
    if kind == "functional":
        torch.manual_seed(0)
        assert far(parts.total, plain(Functional(), images, 1)) < 1e-5


def test_gates_that_are_held_carry_nothing(embedded: fv.TappedModel) -> None:
    image = pictures(1, 96)[0]
    for holding in (fv.mean_ablate(embedded, SITE, natural_gates()), fv.clamp(embedded, SITE, 0.5)):
        with holding:
            profile = splits(embedded, "logit:285", image, [SITE, "features.4.block.2"])
        assert torch.equal(profile[SITE].gate, torch.zeros(1, 3, 96, 96))
        assert profile[SITE].gate_share == 0
        assert torch.equal(profile[SITE].content, profile[SITE].total)
        assert profile["features.4.block.2"].gate_share > 0  # the others are whole
    with fv.clamp(embedded, SITE, 0.5, units=list(range(160))):
        half = split(embedded, "logit:285", image, SITE)
    assert half.error < 1e-5
    assert half.gate.abs().max() > 0


def test_real_weights_are_split_exactly(real_weights: Path) -> None:
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(real_weights)).items()}
    net.load_state_dict(state, strict=False)
    model = fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=96)
    profile = splits(model, "features.16:5", pictures(1, 96))
    assert len(profile) == 8
    assert all(parts.error < 1e-5 for parts in profile.values())
    assert profile["features.15.block.2"].gate_share > 0.01


def test_shares(tiny: fv.TappedModel) -> None:
    parts = split(tiny, "logit:1", pictures(4, 24), "se")
    norms = [p.flatten(1).norm(dim=1) for p in (parts.content, parts.gate)]
    assert torch.allclose(parts.gate_share, norms[1] / (norms[0] + norms[1]))
    rest = (parts.content * parts.total).flatten(1).sum(1) / parts.total.square().flatten(1).sum(1)
    assert torch.allclose(parts.gate_projection + rest, torch.ones(4), atol=1e-5)


def test_images_do_not_touch_each_other_and_each_has_its_objective(tiny: fv.TappedModel) -> None:
    images, goals = pictures(3, 24), ["logit:1", "-conv:3", "gate:se:2"]
    both = split(tiny, [*goals[:2], "logit:4"], images, "se")
    for i, goal in enumerate([*goals[:2], "logit:4"]):
        alone = split(tiny, goal, images[i], "se")
        for part in ("total", "content", "gate"):
            assert far(getattr(both, part)[i : i + 1], getattr(alone, part)) < 1e-5
    maps = saliency.gradient(tiny, goals, images)
    assert far(maps[2], saliency.gradient(tiny, goals[2], images[2])[0]) < 1e-5


def test_views_are_averaged_and_split_too(tiny: fv.TappedModel) -> None:
    image = pictures(1, 24)
    once, again, other = (split(tiny, "logit:1", image, "se", views=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(once.total, again.total)
    assert not torch.equal(once.total, other.total)
    assert once.error < 1e-5


def test_a_block_behind_the_objective_is_left_out_or_refused(embedded: fv.TappedModel) -> None:
    image = pictures(1, 96)
    assert list(splits(embedded, "features.3:1", image)) == [f"features.{i}.block.2" for i in (1, 2, 3)]
    assert list(splits(embedded, "gate:features.3.block.2:1", image)) == [f"features.{i}.block.2" for i in (1, 2)]
    for call in (split, saliency.grad_cam):
        with pytest.raises(InvalidInput, match=r"runs after all that features\.3:1 reads"):
            call(embedded, "features.3:1", image, SITE)


def test_a_branch_that_does_not_pass_the_block() -> None:
    model, image = small("branches"), pictures(1, 24)
    assert split(model, "left:1", image, "se").gate_share > 0
    parts = split(model, "right:1", image, "se")
    assert parts.gate_share == 0
    assert torch.equal(parts.content, parts.total)
    with pytest.raises(InvalidInput, match="does not depend on block 'se'"):
        saliency.grad_cam(model, "right:1", image, "se")


def test_the_change_between_two_images_is_split_exactly(embedded: fv.TappedModel) -> None:
    cases = [
        (embedded, SITE, 96),
        *((m, n, 24) for k in ("functional", "channels last", "cbam") for m in [small(k)] for n in m.gates),
    ]
    for model, site, size in cases:
        one, two = pictures(2, size), pictures(2, size, seed=1)
        there, back = difference(model, site, one, two), difference(model, site, two, one)
        assert there.error < 1e-5
        assert torch.equal(there.gate, -back.gate)
        assert torch.equal(there.content, -back.content)
        y = [model(x, [f"gated:{site}"])[f"gated:{site}"] for x in (one, two)]
        assert torch.equal(there.total, y[1] - y[0])
        with fv.clamp(model, site, 0.5):
            assert difference(model, site, one, two).gate.abs().max() == 0


# ------------------------------------------------------------------------------------------------- the field's methods
def test_the_gradient_is_captums(embedded: fv.TappedModel) -> None:
    from captum.attr import Saliency

    images = pictures(2, 96).requires_grad_()
    expected = Saliency(lambda x: embedded(x, ["output"])["output"]).attribute(images, target=285).amax(1)
    with torch.no_grad():
        assert far(saliency.gradient(embedded, "logit:285", images), expected) < 1e-6
    assert images.grad is None


def test_integrated_gradients_are_complete_and_their_split_is_theirs(embedded: fv.TappedModel) -> None:
    images, goals = pictures(2, 96), ["logit:285", "logit:967"]
    found = saliency.integrated_gradients(embedded, goals, images, steps=24)
    with torch.no_grad():
        ends = [embedded(x, ["output"])["output"] for x in (saliency.start_of(images, "blurred"), images)]
    rise = (ends[1] - ends[0])[[0, 1], [285, 967]]
    assert torch.allclose(found.maps.sum((1, 2)) - found.delta, rise, atol=1e-4)
    assert (found.delta.abs() < 0.05 * rise.abs()).all()
    parts = saliency.integrated_split(embedded, goals, images, SITE, steps=24)
    assert far(parts.total.sum(1), found.maps) < 1e-4
    assert parts.error < 1e-5
    assert parts.gate.abs().max() > 0


@pytest.mark.parametrize("baseline", saliency.BASELINES)
def test_integrated_gradients_of_a_linear_score_are_known(baseline: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2))
    model, image = fv.wrap(net, size=12), pictures(1, 12)
    found = saliency.integrated_gradients(model, "logit:1", image, baseline=baseline, steps=3)
    way = image - saliency.start_of(image, baseline)
    assert torch.allclose(found.maps, (net[1].weight[1].view(1, 3, 12, 12) * way).sum(1), atol=1e-6)
    assert found.delta.abs() < 1e-5


@pytest.mark.parametrize(("objective", "last"), [("logit:2", "head"), ("conv:3", "conv")])
def test_grad_cam_is_its_formula(net: TinySE, tiny: fv.TappedModel, objective: str, last: str) -> None:
    images = pictures(2, 24)
    with torch.no_grad():
        x = net.eval().stem((images - 0.5) / 0.25)
    y = net.se(x).detach().requires_grad_()
    score = net.conv(y).mean((2, 3))[:, 3] if last == "conv" else net.head((net.conv(y) + x).mean((2, 3)))[:, 2]
    (slope,) = torch.autograd.grad(score.sum(), y)
    coarse = F.relu((slope.mean((2, 3), keepdim=True) * y).sum(1, keepdim=True)).detach()
    expected = F.interpolate(coarse, (24, 24), mode="bilinear")[:, 0]
    assert torch.allclose(saliency.grad_cam(tiny, objective, images, "se"), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["functional", "channels last", "cbam"])
def test_grad_cam_at_every_kind_of_gate(kind: str) -> None:
    model, image = small(kind), pictures(2, 24)
    for name in model.gates:
        maps = saliency.grad_cam(model, "logit:0", image, name)
        assert maps.shape == (2, 24, 24)
        assert torch.equal(maps, saliency.grad_cam(model, "logit:0", image, fv.gates(model)[name]))
        a = model(image, [f"gated:{name}"])[f"gated:{name}"]
        assert a.shape[1] in (6, 8)  # channels where Grad-CAM sums over them


# ---------------------------------------------------------------------------------------------- nothing is left behind
def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules())


class Broken(fv.Objective):
    """Fails once the network has run."""

    def __init__(self) -> None:
        super().__init__(["output"])

    def forward(self, activations: fv.Activations) -> Tensor:
        raise ZeroDivisionError("broken")


class Constant(fv.Objective):
    """Reads, and does not care."""

    def __init__(self) -> None:
        super().__init__(["output"])

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations["output"].detach()[:, 0]


CALLS = {
    "split": lambda model, goal, x: split(model, goal, x, "se"),
    "gradient": saliency.gradient,
    "integrated_gradients": lambda model, goal, x: saliency.integrated_gradients(model, goal, x, steps=3),
    "integrated_split": lambda model, goal, x: saliency.integrated_split(model, goal, x, "se", steps=3),
    "grad_cam": lambda model, goal, x: saliency.grad_cam(model, goal, x, "se"),
}


@pytest.mark.parametrize("call", CALLS)
def test_networks_are_left_as_they_were(net: TinySE, tiny: fv.TappedModel, call: str) -> None:
    net(pictures(2, 24)).sum().backward()
    before = {n: (p.grad.clone(), p.requires_grad) for n, p in net.named_parameters() if p.grad is not None}
    images = pictures(2, 24)
    CALLS[call](tiny, "logit:1", images)
    with pytest.raises(ZeroDivisionError):
        CALLS[call](tiny, Broken(), images)
    with pytest.raises(InvalidInput, match="no gradient for the image"):
        CALLS[call](tiny, Constant(), images)
    assert hooks(net) == hooks(tiny.net) == 0
    assert net.training
    assert all(p.grad is None for p in tiny.net.parameters())
    after = {n: (p.grad, p.requires_grad) for n, p in net.named_parameters() if p.grad is not None}
    assert before.keys() == after.keys()
    assert all(torch.equal(g, after[n][0]) and r == after[n][1] for n, (g, r) in before.items())
    assert not images.requires_grad


@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_there_where_the_caller_has_none(tiny: fv.TappedModel, call: str) -> None:
    """The objective and the images are made in inference mode, whose tensors no gradient passes."""
    spec, images = "direction:conv:[1, -2, 1, 0, 1, 0, 3, 1]^2", pictures(1, 24)
    expected = main_map(CALLS[call](tiny, spec, images))
    with torch.inference_mode():
        found = main_map(CALLS[call](tiny, fv.parse(spec), images.clone()))
    assert torch.equal(found, expected)
    assert expected.abs().max() > 0


def main_map(result: object) -> Tensor:
    return next(
        m for m in (getattr(result, "total", None), getattr(result, "maps", None), result) if isinstance(m, Tensor)
    )


# --------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(3, 24, 24, dtype=torch.uint8), "uint8.*divide bytes by 255"),
        (torch.full((3, 24, 24), 2.0), "in \\[2, 2\\]"),
        (torch.full((3, 24, 24), float("nan")), "expected finite"),
        (torch.rand(1, 24, 24), "\\[1, 24, 24\\]"),
        (torch.rand(24, 24), "\\[24, 24\\]"),
        (torch.rand(0, 3, 24, 24), "\\[0, 3, 24, 24\\]"),
        ([0.5], "type list"),
    ],
)
def test_bad_images(tiny: fv.TappedModel, call: str, images: Tensor, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        CALLS[call](tiny, "logit:1", images)


def test_other_bad_input(tiny: fv.TappedModel, net: TinySE) -> None:
    image = pictures(1, 24)
    for call in (split, saliency.grad_cam, saliency.integrated_split):
        with pytest.raises(UnknownName, match="nearest: 'se'"):
            call(tiny, "logit:1", image, "see")
        with pytest.raises(UnknownName, match="no layer 'konv'"):
            call(tiny, "konv:1", image, "se")
        with pytest.raises(InvalidInput, match="wrap it first"):
            call(net, "logit:1", image, "se")
    with pytest.raises(UnknownName, match="no baseline 'gray'; nearest: 'grey'"):
        saliency.integrated_gradients(tiny, "logit:1", image, baseline="gray")
    for call in (saliency.integrated_gradients, lambda *a, **k: saliency.integrated_split(*a, "se", **k)):
        with pytest.raises(InvalidInput, match="steps=0"):
            call(tiny, "logit:1", image, steps=0)
    with pytest.raises(InvalidInput, match="views=0"):
        split(tiny, "logit:1", image, "se", views=0)
    with pytest.raises(InvalidInput, match="as many images"):
        difference(tiny, "se", image, pictures(2, 24))
    for call in (split, saliency.grad_cam):
        with pytest.raises(ModelError, match="2 times"):
            call(small("shared"), "logit:1", image, "se")


def test_without_captum_it_says_what_to_install(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pictures(1, 24)
    for name in [n for n in sys.modules if n.split(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    for call in ("integrated_gradients", "grad_cam"):
        with pytest.raises(FeaturevizError, match=r"pip install 'featureviz\[attribution\]'"):
            CALLS[call](tiny, "logit:1", image)
    assert CALLS["integrated_split"](tiny, "logit:1", image).error < 1e-5  # its own quadrature


# ------------------------------------------------------------------------------------------------------------ pictures
def test_the_sheet_and_the_script(
    embedded: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from featureviz.lab.attribution.saliency_sheet import saliency_sheet

    with pytest.raises(InvalidInput, match="expected one"):
        saliency_sheet(embedded, "logit:285", SITE, pictures(2, 96))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    monkeypatch.delitem(sys.modules, "saliency", raising=False)
    import saliency as script  # pyright: ignore[reportMissingImports]
    from PIL import Image

    from featureviz.rendering.png import to_pixels

    Image.fromarray(to_pixels(pictures(1, 120)[0])).save(tmp_path / "a.png")
    common = ["--image", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["saliency", "embedded", SITE, "-logit:285", "--steps", "4", *common])
    assert script.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 10
    assert said[7].startswith(SITE)
    with Image.open(tmp_path / "out/minus-logit-285.png") as picture:
        assert picture.width > 4 * 224
        assert picture.height > 2 * 224
    monkeypatch.setattr(sys, "argv", ["saliency", "embedded", "features.8.block", "logit:285", *common])
    assert script.main() == 2
    assert "nearest: 'features.8.block.2'" in capsys.readouterr().err
