"""Networks of timm, by name."""

from __future__ import annotations

from typing import Any

from featureviz.errors import ModelError, unknown
from featureviz.image.base import Size
from featureviz.models.weights import DEFAULT, Weights, created, downloaded, with_state
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel


def load_timm(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    try:
        import timm
        from timm.data import ImageNetInfo, resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise ModelError("timm is not installed; pip install timm") from error
    if name.split(".")[0] not in timm.list_models():
        raise unknown("timm model", name, timm.list_models())
    if weights == DEFAULT:
        net = downloaded(f"timm:{name}", lambda: timm.create_model(name, pretrained=True, **options))
    else:
        net = with_state(created(f"timm:{name}", timm.create_model, name, pretrained=False, **options), weights)
    config = resolve_model_data_config(net)
    info = ImageNetInfo() if getattr(net, "num_classes", 0) == 1000 else None
    labels = [info.index_to_description(i) for i in range(1000)] if info else None
    return wrap(
        net, mean=config["mean"], std=config["std"], size=size or config["input_size"][-2:],
        labels=labels, name=f"timm:{name}",
    )  # fmt: skip
