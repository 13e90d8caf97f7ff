"""A network by name, from whichever family has it."""

from __future__ import annotations

import ast
from typing import Any

from featureviz.errors import InvalidInput, unknown
from featureviz.image.base import Size
from featureviz.models import embedded
from featureviz.models.timm import load_timm
from featureviz.models.torchvision import load_torchvision
from featureviz.models.weights import DEFAULT, Weights, with_state
from featureviz.network.model import TappedModel

_FORMS = "expected 'embedded', 'torchvision:NAME' or 'timm:NAME'"


def load(name: str, *, weights: Weights = DEFAULT, size: Size | None = None) -> TappedModel:
    """A network by name, with its own preprocessing and labels.

    Args:
        name: ``"embedded"`` (in the package), ``"torchvision:mobilenet_v3_large"``, ``"timm:seresnet50"``; what the
            library's own function takes goes behind a question mark, ``"torchvision:mobilenet_v3_large?dilated=True"``.
        weights: ``"default"`` downloads the best the library knows; a path to a state dict (``.pt``, ``.pth``,
            ``.safetensors``); None for random weights.
        size: the input's size, in the place of the one the weights were trained at.

    >>> load("embedded").size
    96
    """
    family, _, rest = name.partition(":")
    rest, _, asked = rest.partition("?")
    if name == "embedded":
        return _embedded(weights, size)
    if family == "torchvision" and rest:
        return load_torchvision(rest, weights, size, _options(asked))
    if family == "timm" and rest:
        return load_timm(rest, weights, size, _options(asked))
    raise unknown("model", name, ["embedded", "torchvision:mobilenet_v3_large", "timm:mobilenetv3_large_100"], _FORMS)


def _options(asked: str) -> dict[str, Any]:
    """``dilated=True&width_mult=0.5`` as keyword arguments."""
    try:
        pairs = [pair.split("=", 1) for pair in filter(None, asked.split("&"))]
        return {key: ast.literal_eval(value) for key, value in pairs}
    except (ValueError, SyntaxError):
        raise InvalidInput(f"{asked!r} was given behind the '?'; expected name=value, as in dilated=True") from None


def _embedded(weights: Weights, size: Size | None) -> TappedModel:
    return (
        embedded.load(size)
        if weights == DEFAULT
        else embedded.wrapped(with_state(embedded.embedded_net(), weights), size)
    )
