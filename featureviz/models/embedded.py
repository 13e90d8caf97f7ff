"""The network that ships inside the package: a MobileNetV3 of 0.6 M parameters with nine SE blocks.

It is a narrow and shallow instance of torchvision's ``MobileNetV3`` class, so what works on it also works on
``mobilenet_v3_small`` and ``mobilenet_v3_large``. ``scripts/train_embedded.py`` distilled it from EfficientNet-Lite0.
The model card is ``docs/embedded.md``.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import nn

from featureviz.image.base import Size
from featureviz.models.weights import DEFAULT, Weights, build
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel

# (in, kernel, expanded, out, stride) of each inverted residual; each has an SE block with hard-sigmoid.
BLOCKS = (
    (16, 3, 48, 16, 1),
    (16, 3, 64, 24, 2),
    (24, 3, 96, 24, 1),
    (24, 5, 96, 40, 2),
    (40, 5, 160, 40, 1),
    (40, 5, 160, 40, 1),
    (40, 3, 240, 80, 2),
    (80, 3, 320, 80, 1),
    (80, 3, 320, 80, 1),
)
SIZE = 96
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def embedded_net(pretrained: bool = False) -> nn.Module:
    """The architecture, with random weights or the trained ones: ``[N,3,96,96]`` normalised RGB to ``[N,1000]`` logits.

    >>> sum(p.numel() for p in embedded_net().parameters())
    602504
    """
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    rows = [InvertedResidualConfig(i, k, e, o, True, "HS", s, 1, 1.0) for i, k, e, o, s in BLOCKS]
    net = MobileNetV3(rows, last_channel=128, dropout=0.0)
    if pretrained:
        with as_file(files("featureviz.models") / "embedded.pt") as path:
            net.load_state_dict(torch.load(path, weights_only=True))  # of half precision; the network stays float32
    return net


def load(size: Size | None = None, weights: Weights = DEFAULT) -> TappedModel:
    """The network with the class names of ImageNet; ``size`` replaces its input size of 96 pixels."""
    from torchvision.models import MobileNet_V3_Large_Weights

    net, labels = build("embedded", embedded_net, weights), MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    return wrap(net, mean=MEAN, std=STD, size=SIZE if size is None else size, labels=labels, name="embedded")
