"""Gradients, integrated gradients and Grad-CAM, and that they leave networks unchanged."""

import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, ModelError, UnknownName
from featureviz.lab import (
    grad_cam,
    gradient,
    gradient_paths,
    integrated_gradient_paths,
    integrated_gradients,
    saliency_sheet,
)  # fmt: skip
from featureviz.lab.attribution.integrated import BASELINES, make_baseline
from tests.conftest import TinySE
from tests.lab.small_nets import SITE, far, pictures, small


# ------------------------------------------------------------------------------------------------- the field's methods
def test_the_gradient_is_captums(embedded: fv.TappedModel) -> None:
    from captum.attr import Saliency

    images = pictures(2, 96).requires_grad_()
    expected = Saliency(lambda x: embedded(x, ["output"])["output"]).attribute(images, target=285).amax(1)
    with torch.no_grad():
        assert far(gradient(embedded, "logit:285", images), expected) < 1e-6
    assert images.grad is None


def test_integrated_gradients_are_complete_and_their_split_is_theirs(embedded: fv.TappedModel) -> None:
    images, goals = pictures(2, 96), ["logit:285", "logit:967"]
    found = integrated_gradients(embedded, goals, images, steps=24)
    with torch.no_grad():
        ends = [embedded(x, ["output"])["output"] for x in (make_baseline(images, "blurred"), images)]
    rise = (ends[1] - ends[0])[[0, 1], [285, 967]]
    assert torch.allclose(found.maps.sum((1, 2)) - found.delta, rise, atol=1e-4)
    assert (found.delta.abs() < 0.05 * rise.abs()).all()
    parts = integrated_gradient_paths(embedded, goals, images, SITE, steps=24)
    assert far(parts.total.sum(1), found.maps) < 1e-4
    assert parts.error < 1e-5
    assert parts.gate.abs().max() > 0


@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_of_a_linear_score_are_known(baseline: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2))
    model, image = fv.wrap(net, size=12), pictures(1, 12)
    found = integrated_gradients(model, "logit:1", image, baseline=baseline, steps=3)
    way = image - make_baseline(image, baseline)
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
    assert torch.allclose(grad_cam(tiny, objective, images, "se"), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["functional", "channels last", "cbam"])
def test_grad_cam_at_every_kind_of_gate(kind: str) -> None:
    model, image = small(kind), pictures(2, 24)
    for name in model.gates:
        maps = grad_cam(model, "logit:0", image, name)
        assert maps.shape == (2, 24, 24)
        assert torch.equal(maps, grad_cam(model, "logit:0", image, fv.gates(model)[name]))
        a = model(image, [f"gated:{name}"])[f"gated:{name}"]
        assert a.shape[1] in (6, 8)  # channels where Grad-CAM sums over them


# ---------------------------------------------------------------------------------------------- nothing is left behind
def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules())


class Broken(fv.Objective):
    """Raises an error after the network has run."""

    def __init__(self) -> None:
        super().__init__(["output"])

    def forward(self, activations: fv.Activations) -> Tensor:
        raise ZeroDivisionError("broken")


class Constant(fv.Objective):
    """Reads the output, but has no gradient."""

    def __init__(self) -> None:
        super().__init__(["output"])

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations["output"].detach()[:, 0]


CALLS = {
    "gradient_paths": lambda model, goal, x: gradient_paths(model, goal, x, "se"),
    "gradient": gradient,
    "integrated_gradients": lambda model, goal, x: integrated_gradients(model, goal, x, steps=3),
    "integrated_gradient_paths": lambda model, goal, x: integrated_gradient_paths(model, goal, x, "se", steps=3),
    "grad_cam": lambda model, goal, x: grad_cam(model, goal, x, "se"),
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
    """The objective and the images are created in inference mode, whose tensors have no gradients."""
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
        (torch.zeros(3, 24, 24, dtype=torch.int64), r"torch\.int64.*expected bytes"),
        (torch.full((3, 24, 24), 2.0), "in \\[2, 2\\]"),
        (torch.full((3, 24, 24), float("nan")), "expected finite"),
        (torch.rand(1, 24, 24), "\\[1, 24, 24\\]"),
        (torch.rand(24, 24), "\\[24, 24\\]"),
        (torch.rand(0, 3, 24, 24), "\\[0, 3, 24, 24\\]"),
        ([0.5], r"images=\[0\.5\]"),
    ],
)
def test_bad_images(tiny: fv.TappedModel, call: str, images: Tensor, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        CALLS[call](tiny, "logit:1", images)


def test_other_bad_input(tiny: fv.TappedModel, net: TinySE) -> None:
    image = pictures(1, 24)
    for call in (gradient_paths, grad_cam, integrated_gradient_paths):
        with pytest.raises(UnknownName, match="nearest: 'se'"):
            call(tiny, "logit:1", image, "see")
        with pytest.raises(UnknownName, match="no layer 'konv'"):
            call(tiny, "konv:1", image, "se")
        with pytest.raises(InvalidInput, match="wrap it first"):
            call(net, "logit:1", image, "se")
    with pytest.raises(UnknownName, match="no baseline 'gray'; nearest: 'grey'"):
        integrated_gradients(tiny, "logit:1", image, baseline="gray")
    for call in (integrated_gradients, lambda *a, **k: integrated_gradient_paths(*a, "se", **k)):
        with pytest.raises(InvalidInput, match="steps=0"):
            call(tiny, "logit:1", image, steps=0)
    with pytest.raises(InvalidInput, match="views=0"):
        gradient_paths(tiny, "logit:1", image, "se", views=0)
    for call in (gradient_paths, grad_cam):
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
    assert CALLS["integrated_gradient_paths"](tiny, "logit:1", image).error < 1e-5  # its own quadrature


def test_a_sheet_is_of_one_image(embedded: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match="expected one"):
        saliency_sheet(embedded, "logit:285", SITE, pictures(2, 96))
