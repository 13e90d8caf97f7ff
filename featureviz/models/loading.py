"""Loading of a network by name."""

from __future__ import annotations

import ast
from typing import Any

from featureviz.errors import InvalidInput, unknown
from featureviz.image.base import Size
from featureviz.models import embedded
from featureviz.models.timm import load_timm
from featureviz.models.torchvision import load_torchvision
from featureviz.models.weights import DEFAULT, Weights, build
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
        return _load_embedded(weights, size)
    if family == "torchvision" and rest:
        return load_torchvision(rest, weights, size, _parse_options(text))
    if family == "timm" and rest:
        return load_timm(rest, weights, size, _parse_options(text))
    raise unknown("model", name, ["embedded", "torchvision:mobilenet_v3_large", "timm:mobilenetv3_large_100"], _FORMS)


def _parse_options(text: str) -> dict[str, Any]:
    """``dilated=True&width_mult=0.5`` as keyword arguments."""
    try:
        pairs = [pair.split("=", 1) for pair in filter(None, text.split("&"))]
        return {key: ast.literal_eval(value) for key, value in pairs}
    except (ValueError, SyntaxError):
        raise InvalidInput(f"{text!r} was given after the '?'; expected name=value, as in dilated=True") from None


def _load_embedded(weights: Weights, size: Size | None) -> TappedModel:
    if weights == DEFAULT:
        return embedded.load(size)
    return embedded.wrap_embedded(build("embedded", lambda _: embedded.embedded_net(), weights), size)
