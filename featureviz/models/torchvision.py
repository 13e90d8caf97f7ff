"""Networks of torchvision by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from featureviz.errors import unknown
from featureviz.image.base import Size
from featureviz.models.weights import Weights, build
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel


def load_torchvision(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The torchvision network ``name`` with the preprocessing and the class names of its default weights.

    Args:
        name: as in ``torchvision.models.list_models()``.
        weights, size: as for ``fv.load``.
        options: keyword arguments of ``torchvision.models.get_model``.
    """
    from torchvision import models

    if name not in models.list_models(models):
        raise unknown("torchvision model", name, models.list_models(models))
    best: Any = models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]

    def make(pretrained: bool) -> nn.Module:
        return models.get_model(name, weights=best if pretrained else None, **options)

    net = build(f"torchvision:{name}", make, weights)
    preset = best.transforms()
    return wrap(
        net, mean=preset.mean, std=preset.std, size=size or preset.crop_size[0],
        labels=best.meta.get("categories"), name=f"torchvision:{name}",
    )  # fmt: skip
