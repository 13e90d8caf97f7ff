"""Squeeze-and-excitation sites: their discovery, and ascents on their logits."""

import pytest
import torch
import torchvision
from torch import nn

import featureviz as fv
from featureviz.errors import ModelError, UnknownName
from featureviz.gating.verify import TOLERANCE
from tests.conftest import TinySE

COUNTS = {  # blocks, gates (counted in the tables of the papers)
    "mobilenet_v3_small": (9, 2296),
    "mobilenet_v3_large": (8, 4056),
    "efficientnet_b0": (16, 8960),
    "efficientnet_v2_s": (30, 33728),
    "regnet_y_400mf": (16, None),
}


@pytest.mark.parametrize("name", COUNTS)
def test_torchvision_gates_are_found_and_verified(name: str) -> None:
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None)
    model = fv.wrap(net, mean=0.45, std=0.22, size=96)
    sites = fv.gates(model)
    blocks, count = COUNTS[name]
    assert len(sites) == blocks
    total = sum(site.channels for site in sites.values())
    assert total == (
        count or sum(m.fc2.out_channels for m in net.modules() if isinstance(m, torchvision.ops.SqueezeExcitation))
    )
    assert all(site.error <= TOLERANCE for site in sites.values())
    last = list(sites)[-1]
    a = model(torch.rand(2, 3, 96, 96), [f"gate:{last}", f"gate value:{last}"])
    z, g = a[f"gate:{last}"], a[f"gate value:{last}"]
    assert z.shape == g.shape == (2, sites[last].channels)
    assert torch.equal(sites[last].nonlinearity(z), g)
    assert last in repr(sites)


NO_GATES = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "convnext_tiny": lambda: torchvision.models.convnext_tiny(weights=None),
    "googlenet": lambda: torchvision.models.googlenet(weights=None, init_weights=False),
    "vision transformer": lambda: torchvision.models.VisionTransformer(96, 16, 2, 2, 64, 128),
}


@pytest.mark.parametrize("name", NO_GATES)
def test_networks_without_gates(name: str) -> None:
    torch.manual_seed(0)
    model = fv.wrap(NO_GATES[name](), size=96)
    sites = fv.gates(model)
    assert len(sites) == 0
    assert "no gates" in repr(sites)
    with pytest.raises(ModelError, match="no squeeze-and-excitation gates"):
        sites["layer1"]


def test_the_logits_are_read_before_an_inplace_gate_overwrites_them(net: TinySE) -> None:
    """Old torchvision applies the gate in place, so a tensor that a hook keeps as logits becomes the gate values."""
    net.se.scale_activation = nn.Hardsigmoid(inplace=True)
    model = fv.wrap(net, size=24)
    a = model(torch.rand(2, 3, 24, 24), ["gate:se", "gate value:se", "se"])
    assert torch.equal(torch.nn.functional.hardsigmoid(a["gate:se"]), a["gate value:se"])
    assert not torch.equal(a["gate:se"], a["gate value:se"])


def test_a_subclass_that_computes_more_is_found_by_another_tier(net: TinySE) -> None:
    class Doubled(torchvision.ops.SqueezeExcitation):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    net.se = Doubled(8, 4)
    model = fv.wrap(net, size=24)
    (site,) = fv.gates(model).values()
    assert "class" not in site.found
    a = model(torch.rand(2, 3, 24, 24), ["pregate:se", "gated:se", "gate value:se", "se"])
    assert torch.allclose(a["gated:se"], a["pregate:se"] * a["gate value:se"][..., None, None], atol=1e-6)


def test_nan_weights_are_an_error(net: TinySE) -> None:
    torch.nn.init.constant_(net.se.fc2.weight, float("nan"))
    with pytest.raises(ModelError, match="NaN weights"):
        fv.gates(fv.wrap(net, size=24))


def test_a_wrong_gate_gets_the_nearest_name(tiny: fv.TappedModel) -> None:
    with pytest.raises(UnknownName, match="nearest: 'se'"):
        fv.render(tiny, "gate:s:1", steps=1, progress=False)
    with pytest.raises(fv.FeaturevizError, match="it has 8: 0 to 7"):
        fv.render(tiny, fv.Gate(fv.gates(tiny)["se"], 8), steps=1, progress=False)


def test_the_logit_has_a_slope_where_the_gate_has_none(net: TinySE) -> None:
    """An ascent on the value of a saturated gate does not move; an ascent on its logit does."""
    with torch.no_grad():
        net.se.fc2.bias[3] = -9.0
        net.se.fc2.weight.mul_(200)
    model = fv.wrap(net, size=24)
    shut = fv.render(model, fv.Gate("se", 3), steps=40, size=24, seed=1, progress=False)
    assert shut.scores[-1, 0] > shut.scores[0, 0] + 0.05

    class Value(fv.Objective):
        def __init__(self) -> None:
            super().__init__(["gate value:se"])

        def forward(self, activations: fv.Activations) -> torch.Tensor:
            return activations["gate value:se"][:, 3]

    with pytest.warns(RuntimeWarning, match="still as they started"):
        stuck = fv.render(model, Value(), steps=5, size=24, seed=1, runtime=fv.Runtime(redirect=0), progress=False)
    assert (shut.scores < -3).all()  # saturated in every step, so the gate's value was constant
    assert stuck.scores.abs().max() == 0
    assert torch.equal(stuck.images, fv.render(model, Value(), steps=0, size=24, seed=1, progress=False).images)


def test_gates_open_and_close(embedded: fv.TappedModel) -> None:
    site, units = "features.8.block.2", [5, 40]
    goal = fv.PerImage([g for u in units for g in (fv.Gate(site, u), -fv.Gate(site, u))])
    rendering = fv.render(embedded, goal, steps=60, size=96, progress=False)
    for i, unit in enumerate(units):
        spec = f"gate:{site}:{unit}"
        opened, shut = rendering.held_out.gates[2 * i][spec], rendering.held_out.gates[2 * i + 1][spec]
        assert opened.shape == (16,)
        assert opened.mean() > shut.mean() + 0.3
        assert rendering.held_out.logits[2 * i][spec].mean() > rendering.held_out.logits[2 * i + 1][spec].mean() + 2


def test_the_default_pipeline_hardly_shifts_natural_gates(embedded: fv.TappedModel) -> None:
    """The mean logits over the views of an image differ from its own logits by less than 0.1 natural sd."""
    from featureviz.lab import natural_gates
    from featureviz.transform import Pipeline, robust

    natural = natural_gates()
    y, x = torch.meshgrid(torch.linspace(0, 9, 96), torch.linspace(0, 7, 96), indexing="ij")
    picture = (
        torch.stack([torch.stack([(x + k).sin(), (y * 2 + k).cos(), (x * y / 4 - k).sin()]) for k in range(8)]) / 3
        + 0.5
    )
    views = Pipeline(robust())(picture, fv.Rng(0, 8, views=16), (96, 96))
    names = [f"gate:{site}" for site in embedded.gates]
    with torch.no_grad():
        plain, varied = embedded(picture, names), embedded(views, names)
    shifts = []
    for site in embedded.gates:
        shift = varied[f"gate:{site}"].view(8, 16, -1).mean(1) - plain[f"gate:{site}"]
        shifts.append(float((shift.mean(0) / natural[site].logit_sd).abs().mean()))
    assert sum(shifts) / len(shifts) < 0.1, shifts


def test_real_gates_follow_their_logits(real_weights: object) -> None:
    """With weights from natural images, at least 3 of 4 gates of the last block open, and 3 shut, in 48 steps."""
    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    from safetensors.torch import load_file

    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(real_weights)).items()}
    net.load_state_dict(state, strict=False)
    model = fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=128)
    site, units = "features.15.block.2", [11, 222, 555, 901]
    goal = fv.PerImage([g for u in units for g in (fv.Gate(site, u), -fv.Gate(site, u))])
    rendering = fv.render(model, goal, steps=48, size=96, progress=False)
    means = [float(next(iter(gates.values())).mean()) for gates in rendering.held_out.gates]
    assert sum(m >= 0.99 for m in means[::2]) >= 3, means
    assert sum(m <= 0.01 for m in means[1::2]) >= 3, means
