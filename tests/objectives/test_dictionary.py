"""Latents of dictionaries: the encoders' formulas, specs, recipes, a planted feature, and what does not fit."""

import copy
import json
import pickle
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import featureviz as fv
from featureviz.errors import InvalidInput, UnknownName


def encoder(count: int = 12, c: int = 8, **options: Any) -> fv.Dictionary:
    g = torch.Generator().manual_seed(0)
    w = F.normalize(torch.randn(count, c, generator=g), dim=1)
    return fv.Dictionary(w, torch.randn(count, generator=g), centre=torch.randn(c, generator=g), **options)


@pytest.fixture
def model(tiny: fv.TappedModel) -> fv.TappedModel:
    return fv.dictionary(tiny, "conv", encoder(), name="own")


def test_encoders_compute_their_formulas() -> None:
    x = torch.randn(2, 5, 8)
    relu, topk, jump = encoder(), encoder(activation="topk", k=3), encoder(activation="jumprelu", threshold=0.5)
    z = (x - relu.centre) @ relu.weight.T + relu.bias
    assert torch.allclose(relu(x), z.relu(), atol=1e-6)
    third = z.relu().sort(dim=-1).values[..., -3:-2]
    assert torch.allclose(topk(x), torch.where(z >= third, z.relu(), 0), atol=1e-6)
    assert torch.allclose(jump(x), torch.where(z > 0.5, z, 0), atol=1e-6)
    assert len({relu.hash, encoder().hash, jump.hash}) == 2


def test_a_latent_is_its_encoders_mean_before_the_activation(model: fv.TappedModel, tiny: fv.TappedModel) -> None:
    x, own = torch.rand(3, 3, 24, 24), model.dictionaries["sae:own"][1]
    a = tiny(x, ["conv"])["conv"].movedim(1, -1)
    z = F.linear(a - own.centre, own.weight, own.bias).mean((1, 2))  # [3,K]
    options = {"transforms": [], "draws": 1}
    for goal, expected in (
        ("sae:own:4", z[:, 4]),
        ("sae:own:[4, 0, 11]", z[range(3), [4, 0, 11]]),
        ("2*sae:own:4 - conv:1", 2 * z[:, 4] - a[..., 1].mean((1, 2))),
        ("[sae:own:4, conv:1, -sae:own:2]", torch.stack([z[0, 4], a[1, ..., 1].mean(), -z[2, 2]])),
    ):
        assert repr(fv.parse(goal)) == goal
        assert torch.allclose(fv.evaluate(model, goal, x, **options).scores[0], expected, atol=1e-5), goal
        assert torch.allclose(fv.evaluate(model.on("cpu"), goal, x, **options).scores[0], expected, atol=1e-5)
    goal = fv.Latent("own", [1, 2, 3]).resolve(model.dictionaries)
    for twin in (copy.deepcopy(goal), pickle.loads(pickle.dumps(goal))):
        assert torch.equal(twin(model(x, goal.layers)), goal(model(x, goal.layers)))
    part = model(x, goal.layers).per_image()[2]
    assert torch.allclose(goal.select([2])(part), goal(model(x, goal.layers))[2:], atol=1e-6)


def test_a_recipe_has_the_name_and_the_hash(model: fv.TappedModel) -> None:
    big = fv.dictionary(model, "conv", encoder(65536), name="big one")
    goal = 'sae:"big one":[7, 65535]'
    started = time.perf_counter()
    assert "65,536 latents of 8 channels" in repr(big.dictionaries["sae:big one"][1])
    assert fv.parse("sae:big:[0:65536]").n == 65536
    assert time.perf_counter() - started < 5
    made = fv.render(big, goal, size=24, steps=2, progress=False)
    assert made.recipe["spec"] == goal
    assert big.dictionaries["sae:big one"][1].hash in made.recipe["dictionaries"]["sae:big one"]
    assert len(json.dumps(made.recipe)) < 2000
    assert "sae:own" not in made.recipe["dictionaries"]


def test_a_planted_feature_is_found() -> None:
    """A layer of colours; the latent is one of them: the activations of its picture point there."""
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU())
    torch.manual_seed(3)
    nn.init.orthogonal_(net[0].weight)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    nn.init.zeros_(net[0].bias)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    model = fv.wrap(net, mean=0.5, std=0.25)
    w = F.normalize(torch.randn(40, 6), dim=1)
    planted = net[0].weight[:, :, 0, 0] @ torch.tensor([1.0, -1.0, 1.0])  # pyright: ignore
    w[17] = F.normalize(planted, dim=0)
    model = fv.dictionary(model, "0", fv.Dictionary(w, activation="topk", k=4), name="colours")
    plain = partial(fv.PixelImage, decorrelate=False)
    options = {"image": plain, "optimizer": fv.Adam(0.1), "size": 24, "steps": 60, "progress": False}
    made = fv.render(model, "sae:colours:17", **options)
    with torch.no_grad():
        w, mean = w.detach(), model(made.images, ["0"])["0"].mean((0, 2, 3))
    assert F.cosine_similarity(mean, w[17], dim=0) >= 0.9
    code = model.dictionaries["sae:colours"][1](mean)
    assert int(code.argmax()) == 17


def test_directions_are_rows_by_name(tiny: fv.TappedModel) -> None:
    coef = np.arange(16.0).reshape(2, 8)
    found = fv.directions("conv", coef, ["cat", "dog"])
    assert repr(found["dog"]) == "direction:conv:[8, 9, 10, 11, 12, 13, 14, 15]"
    assert fv.evaluate(tiny, found["cat"], torch.rand(1, 3, 24, 24)).scores.shape == (16, 1)
    for names in (["cat"], ["cat", "cat"]):
        with pytest.raises(InvalidInput, match="K different names"):
            fv.directions("conv", coef, names)


def test_what_does_not_fit_is_explained(model: fv.TappedModel, tiny: fv.TappedModel) -> None:
    x = torch.rand(1, 3, 24, 24)
    with pytest.raises(InvalidInput, match="'wide' reads 9 channels; layer 'conv' has 8"):
        fv.dictionary(model, "conv", encoder(c=9), name="wide")
    with pytest.raises(InvalidInput, match="no dictionary of this model has yet"):
        fv.dictionary(model, "conv", encoder(), name="own")
    with pytest.raises(UnknownName, match=r"no dictionary 'won'; nearest: 'own'. Add one"):
        fv.evaluate(model, "sae:won:1", x)
    with pytest.raises(InvalidInput, match="'own' has 12 latents: 0 to 11"):
        fv.evaluate(model, "sae:own:12", x)
    with pytest.raises(UnknownName, match="no dictionary 'own'"):
        fv.evaluate(tiny, "sae:own:1", x)  # the model that was given has not changed
    with pytest.raises(InvalidInput, match="was not resolved"):
        fv.Latent("own", 1)(model(x, ["sae:own"]))
    with pytest.raises(UnknownName, match="no layer 'cnv'"):
        fv.dictionary(tiny, "cnv", encoder(), name="x")
    w = torch.eye(3)
    for make in (
        lambda: fv.Dictionary(w[0]),
        lambda: fv.Dictionary(w, torch.ones(2)),
        lambda: fv.Dictionary(w * float("nan")),
        lambda: fv.Dictionary(w, activation="topk"),
        lambda: fv.Dictionary(w, k=2),
        lambda: fv.Dictionary(w, activation="topk", k=4),
        lambda: fv.Dictionary(w, activation="gelu"),  # pyright: ignore[reportArgumentType]
        lambda: fv.Dictionary(["a"]),
    ):
        with pytest.raises(InvalidInput, match="expected"):
            make()
