"""Loading of a network by name: the embedded one, those of torchvision and of timm."""

from __future__ import annotations

import ast
from typing import Any

from torch import nn

from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.image.base import Size
from featureviz.models import embedded
from featureviz.models.weights import DEFAULT, Weights, build
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel

_FORMS = "expected 'embedded', 'torchvision:NAME' or 'timm:NAME'"


def load(name: str, *, weights: Weights = DEFAULT, size: Size | None = None) -> TappedModel:
    """A network by name, with its own preprocessing and labels.

    Args:
        name: ``"embedded"`` (in the package), ``"torchvision:mobilenet_v3_large"`` or ``"timm:seresnet50"``. Options of
            the library's own function follow a question mark: ``"torchvision:mobilenet_v3_large?dilated=True"``.
        weights: ``"default"`` downloads the library's best weights; a path is that of a state dict (``.pt``, ``.pth``,
            ``.safetensors``); None is for random weights.
        size: the input size; by default the one of the weights' training.

    Raises:
        UnknownName: there is no network of that name; the message lists the nearest ones.
        ModelError: the network cannot be built, or its weights cannot be downloaded or read, or do not fit.

    >>> load("embedded").size
    96
    """
    family, _, rest = name.partition(":")
    rest, _, text = rest.partition("?")
    if name == "embedded":
        return embedded.load(size, weights)
    loaders = {"torchvision": _load_torchvision, "timm": _load_timm}
    if family in loaders and rest:
        return loaders[family](rest, weights, size, _parse_options(text))
    raise unknown("model", name, ["embedded", "torchvision:mobilenet_v3_large", "timm:mobilenetv3_large_100"], _FORMS)


def _load_torchvision(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The network with the preprocessing and the class names of its default weights."""
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


def _load_timm(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The network with its preprocessing; with ImageNet's class names if it has 1,000 classes."""
    try:
        import timm
        from timm.data import ImageNetInfo, resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise ModelError("timm is not installed; pip install timm") from error
    if name.split(".")[0] not in timm.list_models():
        raise unknown("timm model", name, timm.list_models())
    net = build(f"timm:{name}", lambda pretrained: timm.create_model(name, pretrained=pretrained, **options), weights)
    config = resolve_model_data_config(net)
    info = ImageNetInfo() if getattr(net, "num_classes", 0) == 1000 else None
    labels = [info.index_to_description(i) for i in range(1000)] if info else None
    return wrap(
        net, mean=config["mean"], std=config["std"], size=size or config["input_size"][-2:],
        labels=labels, name=f"timm:{name}",
    )  # fmt: skip


def _parse_options(text: str) -> dict[str, Any]:
    """``dilated=True&width_mult=0.5`` as keyword arguments."""
    try:
        pairs = [pair.split("=", 1) for pair in filter(None, text.split("&"))]
        return {key: ast.literal_eval(value) for key, value in pairs}
    except (ValueError, SyntaxError):
        raise InvalidInput(f"{text!r} was given after the '?'; expected name=value, as in dilated=True") from None
