"""Any network of one's own, ready to be visualised."""

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
    """Make any network ready to be visualised; the network itself is left exactly as it is.

    Args:
        net: any ``nn.Module``.
        mean: subtracted from images in [0,1], a number or one a channel; 0 if left out.
        std: divided by afterwards; 1 if left out.
        size: the input the network wants: a number for the short side, (height, width), or None for any.
        labels: class names, for ``Logit("golden retriever")``.
        forward_fn: ``forward_fn(net, x)`` in the place of ``net(x)``, for what is not a plain image classifier.
        channels: image channels, 3 for RGB.
        name: what reports call it.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> model = wrap(net, mean=0.5, std=0.25, size=16)
    >>> model(torch.rand(2, 3, 16, 16), ["0"])["0"].shape
    torch.Size([2, 8, 14, 14])
    """
    return TappedModel(
        net, discover, mean=mean, std=std, size=size, labels=labels, forward_fn=forward_fn, channels=channels, name=name
    )
