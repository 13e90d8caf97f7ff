"""Networks of torchvision, by name."""

from __future__ import annotations

from typing import Any

from featureviz.errors import unknown
from featureviz.image.base import Size
from featureviz.models.weights import DEFAULT, Weights, created, downloaded, with_state
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel


def load_torchvision(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    from torchvision import models

    if name not in models.list_models(models):
        raise unknown("torchvision model", name, models.list_models(models))
    best: Any = models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
    if weights == DEFAULT:
        net = downloaded(f"torchvision:{name}", lambda: models.get_model(name, weights=best, **options))
    else:
        net = with_state(created(f"torchvision:{name}", models.get_model, name, weights=None, **options), weights)
    preset = best.transforms()
    return wrap(
        net, mean=preset.mean, std=preset.std, size=size or preset.crop_size[0],
        labels=best.meta.get("categories"), name=f"torchvision:{name}",
    )  # fmt: skip
