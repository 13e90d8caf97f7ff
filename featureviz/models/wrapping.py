"""Wrapping of any network for visualisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from featureviz.gating.discovery import discover
from featureviz.image.base import Size
from featureviz.network.model import TappedModel
from featureviz.network.running import ForwardFn


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

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> model = wrap(net, mean=0.5, std=0.25, size=16)
    >>> model(torch.rand(2, 3, 16, 16), ["0"])["0"].shape
    torch.Size([2, 8, 14, 14])
    """
    return TappedModel(
        net, discover, mean=mean, std=std, size=size, labels=labels, forward_fn=forward_fn, channels=channels, name=name
    )
