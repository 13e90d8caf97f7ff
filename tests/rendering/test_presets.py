"""The recipes by name, and that they compose."""

from typing import Any

import pytest
import torch
from torch import nn

import featureviz as fv

OPTIONS: dict[str, Any] = {"size": 24, "progress": False}
ROBUST = ["Jitter(8)", "Scale(0.9, 1.1)", "Rotate(10)", "Jitter(4)"]


def test_the_default_is_the_clear_recipe(tiny: fv.TappedModel) -> None:
    default, named = (fv.render(tiny, "conv:1", **how, **OPTIONS) for how in ({"steps": 4}, fv.clear(4)))
    assert torch.equal(default.images, named.images)
    assert default.recipe == named.recipe
    assert default.recipe["transforms"][:4] == ROBUST
    assert default.recipe["transforms"][4].startswith("Until(Noise(")
    assert "LinearCooldown" in default.recipe["optimizer"]


def test_the_plain_recipe_is_lucids(tiny: fv.TappedModel) -> None:
    recipe = fv.render(tiny, "conv:1", **fv.plain(4), **OPTIONS).recipe
    assert (recipe["transforms"], recipe["optimizer"]) == (ROBUST, "Adam(lr=0.05, betas=(0.9, 0.999))")
    assert fv.plain()["steps"] == 512


def test_presets_compose(tiny: fv.TappedModel) -> None:
    recipe = fv.render(tiny, "conv:1", **fv.clear() | fv.fast(3), **OPTIONS).recipe
    assert recipe["transforms"] == [*ROBUST, "Until(Noise(0.04), 0.75)"]
    assert "lr=0.05" in recipe["optimizer"]
    assert recipe["steps"] == 3


@pytest.mark.parametrize("preset", [fv.clear, fv.fast, fv.plain])
def test_the_steps_of_a_preset_can_be_set(tiny: fv.TappedModel, preset: Any) -> None:
    assert len(fv.render(tiny, "conv:1", **preset(3), **OPTIONS).scores) == 3


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_default_works_for_any_number_of_channels(channels: int) -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(channels, 4, 3)), mean=0.5, std=0.25, size=24, channels=channels)
    assert fv.render(model, "0:1", steps=2, **OPTIONS).images.shape == (1, channels, 24, 24)
