"""Every network that torchvision lists, called with one still picture, whatever its task."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from featureviz.errors import ModelError
from featureviz.image.base import Size
from featureviz.models.weights import Weights, build
from featureviz.models.wrapping import wrap
from featureviz.network.copies.running import ForwardFn
from featureviz.network.model import TappedModel

FRAMES = 16  # of a video; those that the networks were trained with
FIXED: dict[str, dict[str, Any]] = {
    name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def repeat_in_time(net: nn.Module, x: Tensor) -> Any:
    """A video network on a video that stands still: ``[M,C,T,H,W]``."""
    return net(x[:, :, None].expand(-1, -1, FRAMES, -1, -1))


def segment(net: nn.Module, x: Tensor) -> Any:
    """The class scores of every position, ``[M,K,H,W]``, without those of the auxiliary head."""
    return net(x)["out"]


def run_backbone(net: nn.Module, x: Tensor) -> Any:
    """The last map of a detector's backbone; behind it the number of rows depends on what was detected."""
    maps = net.get_submodule("backbone")(x)
    return maps if isinstance(maps, Tensor) else list(maps.values())[-1]


def encode(net: nn.Module, x: Tensor) -> Any:
    """The features of one picture; the flow between two needs two."""
    return net.get_submodule("feature_encoder")(x)


FORWARDS: dict[str, ForwardFn] = {
    "video": repeat_in_time, "segmentation": segment, "detection": run_backbone, "optical_flow": encode,
}  # fmt: skip


@final
@dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained with."""

    mean: Any = 0.5
    std: Any = 0.5
    size: Size | None = None
    labels: list[str] | None = None


def load_torchvision(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The network with the preprocessing and the class names of its default weights.

    A video network sees the picture in every frame; a segmentation network gives its ``"out"``; of a detector the
    backbone runs, and of a network for optical flow the feature encoder.

    Raises:
        ModelError: the network is quantized, so that it has no gradient, or cannot be built, or its weights fail.
    """
    from torchvision import models

    task = _find_task(models.get_model_builder(name))
    if task == "quantization":
        plain = f"torchvision:{name.removeprefix('quantized_')}"
        raise ModelError(f"torchvision:{name} has weights of 8 bits, which have no gradient; give {plain!r}")
    best: Any = models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
    options = {**_fix_options(name, models.get_model_builder(name)), **options}

    def make(pretrained: bool) -> nn.Module:
        return models.get_model(name, weights=best if pretrained else None, **options)

    net = build(f"torchvision:{name}", make, weights)
    known = _find_preprocessing(net, task, best)
    labels = known.labels if options.get("num_classes") in (None, len(known.labels or ())) else None
    return wrap(
        net, mean=known.mean, std=known.std, size=size or known.size, labels=labels, forward_fn=FORWARDS.get(task),
        name=f"torchvision:{name}",
    )  # fmt: skip


def _find_task(builder: Callable[..., nn.Module]) -> str:
    """``"video"`` of ``torchvision.models.video.resnet``; nothing for a classifier."""
    folders = builder.__module__.split(".")[2:-1]
    return folders[0] if folders else ""


def _fix_options(name: str, builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Options without which a network downloads a backbone, or does not fit its own preprocessing."""
    backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
    return backbone | FIXED.get(name, {})


def _find_preprocessing(net: nn.Module, task: str, best: Any) -> Preprocessing:
    if task == "optical_flow":
        return Preprocessing()
    if task == "detection":
        inside: Any = net.get_submodule("transform")
        return Preprocessing(inside.image_mean, inside.image_std)
    preset = best.transforms()
    side = (preset.resize_size if task == "segmentation" else preset.crop_size)[0]
    return Preprocessing(preset.mean, preset.std, side, best.meta.get("categories"))
