"""Loading of a network by name: the embedded one, those of torchvision and of timm."""

from __future__ import annotations

import ast
import warnings
from difflib import get_close_matches
from typing import Any

from featureviz.errors import InvalidInput, ModelError, UnknownName
from featureviz.image.base import Size
from featureviz.models import embedded
from featureviz.models.torchvision_nets import load_torchvision
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
            ``.safetensors``), also of one inside a training script's file; None is for random weights, which
            ``torch.manual_seed`` decides.
        size: the input size; by default the one of the weights' training.

    Raises:
        UnknownName: there is no network of that name; the message lists the nearest ones.
        InvalidInput: an argument is of another kind, or there is no such file.
        ModelError: the network cannot be built, or its weights cannot be downloaded or read, or do not fit.

    >>> load("embedded").size
    96
    """
    if not isinstance(name, str):
        raise InvalidInput(f"a {type(name).__name__} was given for the model's name; {_FORMS}")
    family, _, rest = name.partition(":")
    rest, _, text = rest.partition("?")
    if name == "embedded":
        return embedded.load(size, weights)
    if family == "torchvision" and rest in list_torchvision():
        return load_torchvision(rest, weights, size, _parse_options(text))
    if family == "timm":
        known = list_timm()
        if not known:
            raise ModelError("timm is not installed; pip install 'featureviz[timm]'")
        if rest.split(".")[0] in known:
            return _load_timm(rest, weights, size, _parse_options(text))
    raise _unknown(name)


def list_torchvision() -> list[str]:
    """The names of torchvision's networks."""
    from torchvision import models

    return models.list_models()


def list_timm() -> list[str]:
    """The names of timm's networks, without their tags; none if timm is not installed."""
    try:
        import timm
    except ImportError:
        return []
    return timm.list_models()


def _unknown(name: str) -> UnknownName:
    """The error that lists the nearest names of both libraries, each with its prefix."""
    families = {"torchvision:": list_torchvision(), "timm:": list_timm(), "": ["embedded"]}
    prefixes: dict[str, list[str]] = {}
    for prefix, bares in families.items():
        for bare in bares:
            prefixes.setdefault(bare, []).append(prefix)
    near = get_close_matches(name.rpartition(":")[2].partition("?")[0], prefixes, n=3, cutoff=0.5)
    full = [repr(prefix + bare) for bare in near for prefix in prefixes[bare]]
    nearest = f"; nearest: {', '.join(full)}" if full else ""
    return UnknownName(f"no model {name!r}{nearest}. {_FORMS}")


def _load_timm(name: str, weights: Weights, size: Size | None, options: dict[str, Any]) -> TappedModel:
    """The network with its preprocessing; with ImageNet's class names if it has 1,000 classes."""
    import timm
    from timm.data import ImageNetInfo, resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]

    net: Any = build(
        f"timm:{name}", lambda pretrained: timm.create_model(name, pretrained=pretrained, **options), weights
    )
    classes, trained = getattr(net, "num_classes", 0), getattr(net, "pretrained_cfg", {}).get("num_classes")
    if weights == DEFAULT and classes not in (0, trained):
        warnings.warn(
            f"timm:{name} has {classes} classes, its weights {trained}: its classifier is random", stacklevel=3
        )
    config = resolve_model_data_config(net)
    channels = options.get("in_chans") or config["input_size"][0]
    describe = ImageNetInfo().index_to_description
    labels = [describe(i) for i in range(1000)] if classes == 1000 else None
    return wrap(
        net, mean=_spread(config["mean"], channels), std=_spread(config["std"], channels),
        size=size or config["input_size"][-2:], labels=labels, channels=channels, name=f"timm:{name}",
    )  # fmt: skip


def _spread(values: tuple[float, ...], channels: int) -> list[float]:
    """The numbers of three colours for another number of channels: their mean for grey, otherwise over and over.

    timm does the same with the weights of the first layer.

    >>> _spread((0.5, 0.25, 0.75), 1), _spread((0.5, 0.25, 0.75), 4)
    ([0.5], [0.5, 0.25, 0.75, 0.5])
    """
    return [sum(values) / len(values)] if channels == 1 else [values[i % len(values)] for i in range(channels)]


def _parse_options(text: str) -> dict[str, Any]:
    """``dilated=True&width_mult=0.5`` as keyword arguments."""
    try:
        pairs = [pair.split("=", 1) for pair in filter(None, text.split("&"))]
        return {key: ast.literal_eval(value) for key, value in pairs}
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise InvalidInput(f"{text!r} was given after the '?'; expected name=value, as in dilated=True") from None
