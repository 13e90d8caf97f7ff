"""Lucent's users: any network, layers joined by ``_``, and the objectives that differ from Lucid's."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import featureviz as fv
from featureviz.compat.lucent.modelzoo import inceptionv1
from featureviz.compat.lucent.modelzoo.util import get_model_layers
from featureviz.compat.lucent.optvis import objectives, param, render, transform
from featureviz.errors import InvalidInput, UnknownName

A = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
V = [0.5, -1.0, 2.0, 0.25]


def test_any_network_renders_and_stays_as_it_is() -> None:
    net = torchvision.models.resnet18(weights=None).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    names = get_model_layers(net)
    assert {"layer1_0_conv1", "layer4", "fc"} <= set(names)
    objective = objectives.channel("layer1_0_conv1", 3) - 0.5 * objectives.as_objective("layer1:4")
    (picture,) = render.render_vis(
        net, objective, lambda: param.image(48, batch=2), transforms=[transform.pad(4), transform.jitter(4)],
        thresholds=(2,), progress=False,
    )  # fmt: skip
    assert picture.shape == (2, 48, 48, 3)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(not m._forward_hooks and p.grad is None for m in net.modules() for p in m.parameters())
    x = torch.rand(1, 3, 48, 48)
    tapped = render.import_model(net)
    assert torch.equal(
        tapped(x, ["layer1_0_conv1"])["layer1_0_conv1"],
        tapped(x, ["net_itself.layer1.0.conv1"])["net_itself.layer1.0.conv1"],
    )
    with pytest.raises(UnknownName, match=r"nearest: 'layer1\.0"):
        render.render_vis(net, "layer1_0_convv1:3", progress=False)
    assert dict(get_model_layers(net, getLayerRepr=True))["fc"].startswith("Linear")  # type: ignore[arg-type]


def test_inceptionv1_has_lucids_names() -> None:
    model = inceptionv1(pretrained=False)
    assert "mixed4a_pre_relu" in [layer.name for layer in model.layers()]


def place(y: int, x: int) -> torch.Tensor:
    return A[:, :, y, x]


def cosine(a: torch.Tensor) -> torch.Tensor:
    v = torch.tensor(V)
    return (a * v).sum(1) / (a.norm(dim=1) * v.norm())


W = torch.tensor(V)
FORMULAS = {
    "neuron": (objectives.neuron("a", 2, x=4, y=1), place(1, 4)[:, 2]),
    "neuron at the centre": (objectives.neuron("a", 2), place(2, 3)[:, 2]),
    "direction": (objectives.direction("a", V), cosine(A.movedim(1, -1).reshape(-1, 4)).view(2, -1).mean(1)),
    "direction_neuron": (objectives.direction_neuron("a", V, x=5, y=0), cosine(place(0, 5))),
    "channel_weight": (objectives.channel_weight("a", V), (A * W.view(1, 4, 1, 1)).mean((1, 2, 3))),
    "neuron_weight": (objectives.neuron_weight("a", np.array(V)), (place(2, 3) * W).mean(1)),
    "localgroup_weight": (
        objectives.localgroup_weight("a", V, x=1, y=2, wx=3, wy=2),
        (A[:, :, 2:4, 1:4] * W.view(1, 4, 1, 1)).mean((1, 2, 3)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_objective_is_its_formula(name: str) -> None:
    objective, expected = FORMULAS[name]
    assert torch.allclose(objective(fv.Activations({"a": A}, fv.Rows.make(2))), expected, atol=1e-6)


def test_what_is_wrong_is_explained() -> None:
    with pytest.raises(InvalidInput, match=r"an nn\.Module"):
        render.render_vis("resnet18", "layer1:3")
    with pytest.raises(InvalidInput, match="show and save"):
        render.render_vis(nn.Conv2d(3, 4, 3), "x:3", show_image=True)
    with pytest.raises(InvalidInput, match="finite numbers"):
        objectives.channel_weight("a", [np.nan])
