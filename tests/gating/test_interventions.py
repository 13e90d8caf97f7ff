"""Interventions: each does what it says to the gates, inside its block and nowhere else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput, UnknownName
from featureviz.lab import GateStatistics
from featureviz.network.in_force import interventions_on
from featureviz.rendering.shards import copy_to_devices, split_images
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
        (lambda m: fv.clamp(m, SITE, 1.0, units=[-1]), InvalidInput, "expected a whole number from 0"),
        (lambda m: fv.resample(m, SITE, [0, 2]), InvalidInput, "from 0 to 1"),
        (lambda m: fv.clamp(nn.ReLU(), SITE, 1.0), InvalidInput, "fv.wrap"),
    ],
)
def test_bad_requests_are_explained(tiny: fv.TappedModel, change, error: type, text: str) -> None:
    with pytest.raises(error, match=text), change(tiny):
        pass
    assert interventions_on(tiny.key) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: fv.clamp(m, SITE, torch.ones(7)), "7 numbers were given for 'se', a block of 8 gates"),
        (lambda m: fv.scale(m, SITE, [1.0, 2.0]), "2 numbers were given"),
        (lambda m: fv.shift(m, SITE, np.zeros(9)), "9 numbers were given"),
        (lambda m: fv.clamp(m, SITE, float("nan")), r"value=nan was given; expected a finite number"),
        (lambda m: fv.scale(m, SITE, np.inf), "factor=inf"),
        (lambda m: fv.shift(m, SITE, torch.full((8,), torch.nan)), "expected finite numbers"),
        (lambda m: fv.clamp(m, SITE, "open"), "value='open'"),
        (lambda m: fv.clamp(m, SITE, None), "value=None"),
        (lambda m: fv.clamp(m, SITE, True), "value=True"),
        (lambda m: fv.clamp(m, SITE, ["a"] * 8), "expected a number, or one for each gate"),
        (lambda m: fv.clamp(m, SITE, torch.ones(8, dtype=torch.bool)), "expected finite numbers"),
        (lambda m: fv.clamp(m, 3, 1.0), "sites=3 was given"),
        (lambda m: fv.clamp(m, [SITE, None], 1.0), "expected the name of a gated block"),
        (lambda m: fv.mean_ablate(m, SITE, None), "natural=None was given; expected fv.lab.GateStatistics"),
        (lambda m: fv.resample(m, SITE, [0.5, 1]), r"order\[0\]=0.5"),
        (lambda m: fv.resample(m, SITE, []), r"order=\[\]"),
        (lambda m: fv.resample(m, SITE, 3), "order=3"),
    ],
)
def test_values_and_orders_are_checked_before_anything_runs(tiny: fv.TappedModel, change, text: str) -> None:
    with pytest.raises(InvalidInput, match=text), change(tiny):
        pass
    assert interventions_on(tiny.key) == ()


@pytest.mark.parametrize(
    "value", [0.25, np.float32(0.25), np.full(8, 0.25), [0.25] * 8, (0.25,) * 8, torch.tensor(0.25), np.array(0.25)]
)
def test_numbers_of_any_kind_are_values(tiny: fv.TappedModel, value: object) -> None:
    with fv.clamp(tiny, SITE, value):  # pyright: ignore[reportArgumentType]
        assert activate(tiny, VALUE)[VALUE].unique().tolist() == [0.25]


def test_a_gradient_flows_to_a_value(tiny: fv.TappedModel) -> None:
    value = torch.tensor(0.5, requires_grad=True)
    with fv.scale(tiny, SITE, value):
        output = tiny(views(), ["output"])["output"].sum()
    assert torch.autograd.grad(output, value)[0].abs() > 0


# ------------------------------------------------------------------------------------------------------------ resample
@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_an_order_is_of_images_not_of_rows(tiny: fv.TappedModel, n: int) -> None:
    """Four rows are two images of two views, or four images: only the batch tells."""
    with fv.resample(tiny, SITE, [1, 0]), pytest.raises(InvalidInput, match=f"order of 2 images; the batch has {n}"):
        activate(tiny, VALUE, n=n)


def test_a_batch_whose_images_exchange_gates_is_judged_whole(tiny: fv.TappedModel) -> None:
    """Six images of 16 views are more than one chunk."""
    images, order = views(6), [1, 2, 3, 4, 5, 0]
    plain = fv.evaluate(tiny, fv.GateValue(SITE, 3), images).scores
    with fv.resample(tiny, SITE, order):
        exchanged = fv.evaluate(tiny, fv.GateValue(SITE, 3), images).scores
        with pytest.raises(InvalidInput, match="order of 6 images; the batch has 2"):
            fv.evaluate(tiny, fv.GateValue(SITE, 3), images[:2])
    assert torch.allclose(exchanged, plain[:, order])


def test_images_that_exchange_gates_are_not_shared_among_devices(tiny: fv.TappedModel) -> None:
    image = fv.PixelImage(2, 24)
    with fv.resample(tiny, SITE, [1, 0]), pytest.warns(RuntimeWarning, match="resample se"):
        shards = split_images(copy_to_devices(tiny, ["cpu", "cpu"]), fv.Channel("conv", 1), image)
    assert [len(shard.image) for shard in shards] == [2]
    assert len(split_images(copy_to_devices(tiny, ["cpu", "cpu"]), fv.Channel("conv", 1), image)) == 2


def test_a_recipe_names_each_kind_of_intervention(tiny: fv.TappedModel) -> None:
    natural = GateStatistics.measure(tiny, views(8))
    with (
        fv.mean_ablate(tiny, SITE, natural),
        fv.scale(tiny, SITE, [1.0] * 8),
        fv.shift(tiny, SITE, np.float64(0.5), units=[1, 2]),
        fv.resample(tiny, SITE, np.array([1, 0])),
        fv.stop_gradient(tiny, SITE),
    ):
        texts = [i.text for i in interventions_on(tiny.key)]
    assert texts == ["mean_ablate se", "scale se 8 numbers", "shift se:[1, 2] 0.5", "resample se [1, 0]",
                     "stop_gradient se"]  # fmt: skip
