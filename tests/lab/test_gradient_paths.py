"""The exact split of gradients at a block's gates."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.lab import (
    grad_cam,
    gradient,
    gradient_path_profile,
    gradient_paths,
    natural_gates,
)  # fmt: skip
from featureviz.models.embedded import embedded_net
from tests.conftest import TinySE
from tests.lab.small_nets import SITE, Functional, far, pictures, plain, small


def test_the_split_is_what_autograd_gives_with_either_factor_detached(net: TinySE, tiny: fv.TappedModel) -> None:
    images = pictures(3, 24)
    net.eval()

    def by_hand(content: bool, gate: bool, around: bool) -> Tensor:
        image = images.clone().requires_grad_()
        x = net.stem((image - 0.5) / 0.25)
        g = F.hardsigmoid(net.se.fc2(F.relu(net.se.fc1(x.mean((2, 3), keepdim=True)))))
        y = net.conv((x if content else x.detach()) * (g if gate else g.detach())) + (x if around else x.detach())
        return torch.autograd.grad(net.head(y.mean((2, 3)))[:, 2].sum(), image)[0]

    parts = gradient_paths(tiny, "logit:cat", images, "se")
    assert far(parts.total, by_hand(True, True, True)) < 1e-5
    assert far(parts.content, by_hand(True, False, True)) < 1e-5
    assert far(parts.gate, by_hand(False, True, False)) < 1e-5  # what goes around the block is content
    assert parts.gate.abs().max() > 1e-3 * parts.total.abs().max()


def test_on_the_embedded_network_the_parts_add_up_to_plain_autograd(embedded: fv.TappedModel) -> None:
    images = pictures(2, 96)
    net = embedded_net()
    net.load_state_dict(embedded.net.state_dict())
    profile = gradient_path_profile(embedded, "logit:285", images)
    assert list(profile) == list(embedded.gates)
    expected = plain(net, images, 285, embedded.running.mean, embedded.running.std)
    for parts in profile.values():
        assert far(parts.total, expected) < 1e-5
        assert parts.error < 1e-5
        assert bool(((parts.gate_share > 0) & (parts.gate_share < 1)).all())
    with fv.stop_gradient(embedded, SITE):
        detached = gradient_paths(embedded, "logit:285", images, SITE)
    assert torch.equal(detached.total, profile[SITE].content)
    assert detached.gate.abs().max() == 0


@pytest.mark.parametrize("kind", ["functional", "channels last", "cbam"])
def test_every_kind_of_gate_is_split(kind: str) -> None:
    model, images = small(kind), pictures(2, 24)
    torch.manual_seed(0)
    assert len(model.gates) == (2 if kind == "cbam" else 1)
    for name, parts in gradient_path_profile(model, "logit:1", images).items():
        assert parts.error < 1e-5
        assert (parts.gate_share > 1e-3).all()
        with fv.stop_gradient(model, name):
            assert far(gradient_paths(model, "logit:1", images, name).total, parts.content) < 1e-6
    if kind == "functional":
        torch.manual_seed(0)
        assert far(parts.total, plain(Functional(), images, 1)) < 1e-5


def test_fixed_gates_have_no_gradient(embedded: fv.TappedModel) -> None:
    image = pictures(1, 96)[0]
    for intervention in (fv.mean_ablate(embedded, SITE, natural_gates()), fv.clamp(embedded, SITE, 0.5)):
        with intervention:
            profile = gradient_path_profile(embedded, "logit:285", image, [SITE, "features.4.block.2"])
        assert torch.equal(profile[SITE].gate, torch.zeros(1, 3, 96, 96))
        assert profile[SITE].gate_share == 0
        torch.testing.assert_close(profile[SITE].content, profile[SITE].total)  # two forwards may round differently
        assert profile["features.4.block.2"].gate_share > 0  # the others are whole
    with fv.clamp(embedded, SITE, 0.5, units=list(range(160))):
        half = gradient_paths(embedded, "logit:285", image, SITE)
    assert half.error < 1e-5
    assert half.gate.abs().max() > 0


def test_real_weights_are_split_exactly(real_weights: Path) -> None:
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(real_weights)).items()}
    net.load_state_dict(state, strict=False)
    model = fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=96)
    profile = gradient_path_profile(model, "features.16:5", pictures(1, 96))
    assert len(profile) == 8
    assert all(parts.error < 1e-5 for parts in profile.values())
    assert profile["features.15.block.2"].gate_share > 0.01


def test_shares(tiny: fv.TappedModel) -> None:
    parts = gradient_paths(tiny, "logit:1", pictures(4, 24), "se")
    norms = [p.flatten(1).norm(dim=1) for p in (parts.content, parts.gate)]
    assert torch.allclose(parts.gate_share, norms[1] / (norms[0] + norms[1]))


def test_images_are_independent_and_each_has_its_objective(tiny: fv.TappedModel) -> None:
    images, goals = pictures(3, 24), ["logit:1", "-conv:3", "gate:se:2"]
    both = gradient_paths(tiny, [*goals[:2], "logit:4"], images, "se")
    for i, goal in enumerate([*goals[:2], "logit:4"]):
        alone = gradient_paths(tiny, goal, images[i], "se")
        for part in ("total", "content", "gate"):
            assert far(getattr(both, part)[i : i + 1], getattr(alone, part)) < 1e-5
    maps = gradient(tiny, goals, images)
    assert far(maps[2], gradient(tiny, goals[2], images[2])[0]) < 1e-5


def test_views_are_averaged_and_split_too(tiny: fv.TappedModel) -> None:
    image = pictures(1, 24)
    once, again, other = (gradient_paths(tiny, "logit:1", image, "se", views=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(once.total, again.total)
    assert not torch.equal(once.total, other.total)
    assert once.error < 1e-5


def test_a_block_after_the_objective_is_left_out_or_refused(embedded: fv.TappedModel) -> None:
    image = pictures(1, 96)
    assert list(gradient_path_profile(embedded, "features.3:1", image)) == [f"features.{i}.block.2" for i in (1, 2, 3)]
    assert list(gradient_path_profile(embedded, "gate:features.3.block.2:1", image)) == [
        f"features.{i}.block.2" for i in (1, 2)
    ]
    for call in (gradient_paths, grad_cam):
        with pytest.raises(InvalidInput, match=r"runs after all that features\.3:1 reads"):
            call(embedded, "features.3:1", image, SITE)


def test_a_branch_that_does_not_pass_the_block() -> None:
    model, image = small("branches"), pictures(1, 24)
    assert gradient_paths(model, "left:1", image, "se").gate_share > 0
    parts = gradient_paths(model, "right:1", image, "se")
    assert parts.gate_share == 0
    assert torch.equal(parts.content, parts.total)
    with pytest.raises(InvalidInput, match="does not depend on block 'se'"):
        grad_cam(model, "right:1", image, "se")
