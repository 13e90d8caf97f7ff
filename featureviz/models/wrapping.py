"""Wrapping of any network for visualisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.gating.discovery import discover
from featureviz.image.base import Size
from featureviz.network.model import TappedModel
from featureviz.network.private_copy import private_copy
from featureviz.network.running import ForwardFn, RunningCopy


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

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> model = wrap(net, mean=0.5, std=0.25, size=16)
    >>> model(torch.rand(2, 3, 16, 16), ["0"])["0"].shape
    torch.Size([2, 8, 14, 14])
    """
    deviation = _per_channel(std, 1.0, channels, "std")
    if bool((deviation <= 0).any()):
        raise InvalidInput(f"std={std} was given; expected positive numbers")
    copy, center = private_copy(net), _per_channel(mean, 0.0, channels, "mean")
    device = next((p.device for p in copy.parameters()), torch.device("cpu"))
    running = RunningCopy(copy, center.to(device), deviation.to(device), forward_fn, name or type(net).__name__)
    return TappedModel(running, discover, size=size, labels=labels, channels=channels)


@torch.inference_mode(False)  # numbers made in that mode could take no part in a gradient
def _per_channel(value: Sequence[float] | float | None, default: float, channels: int, what: str) -> Tensor:
    numbers = torch.as_tensor(default if value is None else value, dtype=torch.float32).flatten()
    if len(numbers) not in (1, channels):
        raise InvalidInput(f"{what}={value} was given; expected a number, or {channels} of them")
    return numbers.expand(channels).clone().view(1, channels, 1, 1)
