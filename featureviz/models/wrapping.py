"""Wrapping of any network for visualisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from weakref import ref

import torch
from torch import Tensor, nn

from featureviz.checks import entries, finite, instance, show, whole
from featureviz.errors import InvalidInput, unknown
from featureviz.gating.discovery import discover
from featureviz.image.base import CHANNELS, Size, height_width
from featureviz.network.axes import Axes
from featureviz.network.copies.private_copy import private_copy
from featureviz.network.copies.running import ForwardFn, RunningCopy
from featureviz.network.model import TappedModel
from featureviz.network.taps import INPUT, OUTPUT


def wrap(
    net: nn.Module,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: Size | None = None,
    labels: Sequence[str] | None = None,
    forward_fn: ForwardFn | None = None,
    channels: int = 3,
    name: str = "",
    axes: Mapping[str, str] | None = None,
) -> TappedModel:
    """Wrap a network for visualisation. The network itself is not changed.

    Args:
        net: any ``nn.Module``.
        mean: subtracted from images in [0,1]: a number, or one for each channel; None for 0.
        std: the divisor after that: a number, or one for each channel; None for 1.
        size: the network's input size in pixels: a number for the short side, (height, width), or None for any size.
        labels: class names, for ``Logit("golden retriever")``.
        forward_fn: replaces the call ``net(x)`` by ``forward_fn(net, x)``, for a network that is called in another way.
        channels: image channels, 3 for RGB.
        name: the network's name in reports.
        axes: of layers that do not tell which axis is what: ``{"blocks.0": "n t c"}``, with a letter for each axis, n
            for the batch and c for the channels; ``"(n w) t c"`` for windows of an image in the batch axis.

    Raises ``ModelError`` for a network that cannot be copied, so that it would be changed.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> model = wrap(net, mean=0.5, std=0.25, size=16)
    >>> model(torch.rand(2, 3, 16, 16), ["0"])["0"].shape
    torch.Size([2, 8, 14, 14])
    """
    channels = whole("channels", channels, 1, CHANNELS)
    deviation = _per_channel(std, 1.0, channels, "std")
    if bool((deviation <= 0).any()):
        raise InvalidInput(f"std={show(std)} was given; expected positive numbers")
    if forward_fn is not None and not callable(forward_fn):
        raise InvalidInput(f"forward_fn={show(forward_fn)} was given; expected a function of the network and images")
    if labels is not None:
        labels = [instance("labels", label, str) for label in entries("labels", labels, of="class names")]
    if size is not None:
        pixels = height_width(size)
        size = pixels if isinstance(size, Iterable) else pixels[0]
    copy, center = private_copy(net), _per_channel(mean, 0.0, channels, "mean")
    device = next((p.device for p in copy.parameters()), torch.device("cpu"))
    name = instance("name", name, str) or type(net).__name__
    running = RunningCopy(copy, center.to(device), deviation.to(device), forward_fn, name)
    running.owner = [ref(t) for t in (*net.parameters(), *net.buffers())]
    told = {layer: Axes.parse(text) for layer, text in instance("axes", {} if axes is None else axes, Mapping).items()}
    if unknown_layers := told.keys() - dict(copy.named_modules(remove_duplicate=False)).keys() - {INPUT, OUTPUT}:
        raise unknown("layer", min(unknown_layers), [n for n, _ in copy.named_modules() if n], "It stands in axes=.")
    return TappedModel(running, discover, size=size, labels=labels, channels=channels, axes=told)


@torch.inference_mode(False)  # numbers made in that mode could take no part in a gradient
def _per_channel(value: Sequence[float] | float | None, default: float, channels: int, what: str) -> Tensor:
    if value is None:
        given = [default]
    else:
        several = isinstance(value, Iterable) and getattr(value, "ndim", 1)
        given = [finite(what, v) for v in (entries(what, value) if several else [value])]
    numbers = torch.tensor(given, dtype=torch.float32, device="cpu")
    if len(numbers) not in (1, channels):
        raise InvalidInput(f"{what}={show(value)} was given; expected a number, or {channels} of them")
    return numbers.expand(channels).clone().view(1, channels, 1, 1)
