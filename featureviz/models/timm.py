"""Networks of timm by name."""

from __future__ import annotations

from typing import Any

from featureviz.errors import ModelError, unknown
from featureviz.image.base import Size
from featureviz.models.weights import Weights, build
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel


def load_timm(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The timm network ``name`` with its preprocessing; with ImageNet's class names if it has 1,000 classes.

    Args:
        name: as in ``timm.list_models()``, with a pretrained tag after a dot or without.
        weights, size: as for ``fv.load``.
        options: keyword arguments of ``timm.create_model``.
    """
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
