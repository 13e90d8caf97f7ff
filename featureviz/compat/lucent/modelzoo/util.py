"""The names of layers as Lucent has them: paths of modules, joined by ``_``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from featureviz.checks import instance, show
from featureviz.compat.lucid.modelzoo.vision_models import Model, as_tapped
from featureviz.errors import InvalidInput
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as Lucent's render_vis normalises


class Joined(nn.Module):
    """A network whose modules have their paths joined by ``_`` as further names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        for path, module in net.named_modules():
            if path and not hasattr(self, joined := path.replace(".", "_")):
                self.add_module(joined, module)
        self.net_itself = net

    def forward(self, x: Tensor) -> Any:
        return self.net_itself(x)


def get_model_layers(model: nn.Module, getLayerRepr: bool = False) -> list[str] | dict[str, str]:
    """The names of all layers, and with ``getLayerRepr`` what each is."""
    net = model.net if isinstance(model, TappedModel) else instance("model", model, nn.Module)
    named = {path.replace(".", "_"): repr(module) for path, module in net.named_modules() if path}
    return named if getLayerRepr else list(named)


def import_model(model: Any, *, preprocess: bool = True) -> TappedModel:
    """Any network for ``render_vis``; with ``preprocess`` images are normalised by ImageNet's numbers."""
    if isinstance(model, (Model, TappedModel)):
        return as_tapped(model)
    if not isinstance(model, nn.Module):
        raise InvalidInput(
            f"model={show(model)} was given; expected an nn.Module, such as torchvision.models.resnet18()"
        )
    mean, std = (MEAN, STD) if preprocess else (None, None)
    return wrap(Joined(model), name=type(model).__name__, mean=mean, std=std)
