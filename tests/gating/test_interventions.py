"""Interventions: each does what it says to the gates, inside its block and nowhere else."""

import copy

import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput, UnknownName
from featureviz.lab import GateStatistics
from featureviz.network.in_force import interventions_on
from tests.conftest import TinySE

SITE = "se"
VALUE, LOGIT, PRE_GATE, GATED = "gate value:se", "gate:se", "pregate:se", "gated:se"


def views(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def activate(model: fv.TappedModel, *layers: str, n: int = 3) -> fv.Activations:
    with torch.no_grad():
        return model(views(n), layers or (VALUE, LOGIT, PRE_GATE, GATED, "output"))


def test_clamp_to_one_equals_a_network_whose_gate_returns_one(net: TinySE, tiny: fv.TappedModel) -> None:
    class One(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(z)

    patched = copy.deepcopy(net)
    patched.se.scale_activation = One()
    other = fv.wrap(patched, mean=0.5, std=0.25, size=24)
    with fv.clamp(tiny, SITE, 1.0):
        a = activate(tiny)
        assert torch.equal(a["output"], other(views(), ["output"])["output"])
        assert torch.equal(a[GATED], a[PRE_GATE])
        assert a[VALUE].unique().tolist() == [1.0]


def test_every_intervention_does_what_it_says(tiny: fv.TappedModel) -> None:
    before = activate(tiny)
    with fv.scale(tiny, SITE, 0.5):
        assert torch.allclose(activate(tiny)[VALUE], before[VALUE] / 2)
    with fv.shift(tiny, SITE, -0.7):
        after = activate(tiny)
        assert torch.allclose(after[LOGIT], before[LOGIT] - 0.7)
        assert torch.allclose(after[VALUE], nn.functional.hardsigmoid(before[LOGIT] - 0.7))
    with fv.resample(tiny, SITE, [2, 0, 1]):
        after = activate(tiny)
        assert torch.equal(after[VALUE], before[VALUE][[2, 0, 1]])
        assert torch.equal(after[PRE_GATE], before[PRE_GATE])
        assert torch.allclose(after[GATED], before[PRE_GATE] * after[VALUE][..., None, None])
    natural = GateStatistics.measure(tiny, views(8))
    with fv.mean_ablate(tiny, SITE, natural):
        assert torch.allclose(activate(tiny)[VALUE], natural[SITE].value_mean.expand(3, -1))
    assert torch.equal(activate(tiny)["output"], before["output"])


def test_units_leave_the_other_channels_alone(tiny: fv.TappedModel) -> None:
    before = activate(tiny, VALUE)[VALUE]
    with fv.clamp(tiny, SITE, 0.0, units=[1, 6]):
        after = activate(tiny, VALUE)[VALUE]
    assert (after[:, [1, 6]] == 0).all()
    others = [0, 2, 3, 4, 5, 7]
    assert torch.equal(after[:, others], before[:, others])
    with fv.shift(tiny, SITE, torch.arange(8.0), units=3):
        shifted = activate(tiny, LOGIT)[LOGIT]
    assert torch.allclose(shifted[:, 3], activate(tiny, LOGIT)[LOGIT][:, 3] + 3)


def test_resample_moves_all_views_of_an_image(tiny: fv.TappedModel) -> None:
    rows = fv.Rows.make(2, views=2)
    plain = tiny(views(4), [VALUE], rows)[VALUE]
    with fv.resample(tiny, SITE, [1, 0]):
        resampled = tiny(views(4), [VALUE], rows)[VALUE]
    assert torch.equal(resampled, plain[[2, 3, 0, 1]])


def test_stop_gradient_leaves_no_gradient_in_the_gate(net: TinySE) -> None:
    """The layers that compute the gate get no gradient; the layers before the block do."""
    model = fv.wrap(net, mean=0.5, std=0.25, size=24)
    with fv.stop_gradient(model, SITE):
        running = model.isolated()
    running.net.requires_grad_()
    running(views()).sum().backward()
    gradients = {name: p.grad for name, p in running.net.named_parameters()}
    assert gradients["se.fc1.weight"] is None
    assert gradients["se.fc2.weight"] is None
    assert gradients["stem.0.weight"] is not None


def test_interventions_nest_in_order_and_a_recipe_names_them(tiny: fv.TappedModel) -> None:
    with fv.clamp(tiny, SITE, 0.5), fv.scale(tiny, [SITE], 0.5, units=2):
        assert activate(tiny, VALUE)[VALUE][0].tolist() == [0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5]
        rendering = fv.render(tiny, "conv:3", steps=2, size=24, progress=False)
    assert rendering.recipe["interventions"] == ["clamp se 0.5", "scale se:2 0.5"]
    assert "interventions" not in fv.render(tiny, "conv:3", steps=0, size=24, progress=False).recipe
    with fv.clamp(tiny, SITE, 1.0):
        opened = fv.render(tiny, "conv:3", steps=6, size=24, progress=False)
    plain = fv.render(tiny, "conv:3", steps=6, size=24, progress=False)
    assert not torch.equal(opened.images, plain.images)


def test_no_hook_and_no_intervention_remains_after_an_error(net: TinySE, tiny: fv.TappedModel) -> None:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny.net.modules())
    with pytest.raises(RuntimeError, match="own"), fv.clamp(tiny, SITE, 1.0), fv.shift(tiny, SITE, 1.0):
        raise RuntimeError("own")
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny.net.modules()) == hooks
    assert interventions_on(tiny.key) == ()
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def test_a_copy_is_clamped_inside_the_block_and_nowhere_else(tiny: fv.TappedModel) -> None:
    with fv.clamp(tiny, SITE, torch.full((8,), 0.25)):
        twin = copy.deepcopy(tiny)
        assert activate(twin, VALUE)[VALUE].unique().tolist() == [0.25]
    for model in (twin, tiny):
        assert activate(model, VALUE)[VALUE].unique().numel() > 1


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda m: fv.clamp(m, "s", 1.0), UnknownName, "nearest: 'se'"),
        (lambda m: fv.clamp(m, SITE, 1.0, units=8), InvalidInput, "8 channels: 0 to 7"),
        (lambda m: fv.clamp(m, SITE, 1.0, units=[-1]), InvalidInput, "expected an index from 0"),
        (lambda m: fv.resample(m, SITE, [0, 2]), InvalidInput, "from 0 to 1"),
        (lambda m: fv.clamp(nn.ReLU(), SITE, 1.0), InvalidInput, "fv.wrap"),
    ],
)
def test_bad_requests_are_explained(tiny: fv.TappedModel, change, error: type, text: str) -> None:
    with pytest.raises(error, match=text), change(tiny):
        pass
    assert interventions_on(tiny.key) == ()


def test_a_wrong_number_of_values_or_images_is_explained(tiny: fv.TappedModel) -> None:
    with (
        fv.clamp(tiny, SITE, torch.ones(7)),
        pytest.raises(InvalidInput, match="7 numbers were given for a block of 8"),
    ):
        activate(tiny, VALUE)
    with fv.resample(tiny, SITE, [1, 0]), pytest.raises(InvalidInput, match="order of 2 images; a batch of 3"):
        activate(tiny, VALUE)
