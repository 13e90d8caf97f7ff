"""Networks under Lucid's names: ``InceptionV1`` is torchvision's GoogLeNet, with the names of Lucid's layers."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import show
from featureviz.errors import InvalidInput, ModelError
from featureviz.models.loading import load
from featureviz.models.weights import DEFAULT, Weights
from featureviz.models.wrapping import wrap
from featureviz.network.model import TappedModel

BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


class Model:
    """A network as ``render_vis`` takes it. ``tapped`` is the network of featureviz; ``Model(tapped)`` makes one."""

    def __init__(self, tapped: TappedModel | None = None) -> None:
        self._tapped = tapped

    @property
    def tapped(self) -> TappedModel:
        if self._tapped is None:
            raise ModelError(f"{type(self).__name__} has no weights yet; call model.load_graphdef() first")
        return self._tapped

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes."""
        return None if self.tapped.labels is None else list(self.tapped.labels)

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return [layer.name for layer in self.tapped.layers()]


@final
class InceptionV1(Model):
    """GoogLeNet of torchvision under the names of Lucid's InceptionV1: ``conv2d0``, ``mixed4a``, ``mixed4a_pre_relu``.

    The weights are torchvision's, which are others than Lucid's: unit 476 of ``mixed4a`` is another feature, and there
    are 1,000 classes.

    Args:
        weights: as for ``fv.load``: ``"default"`` downloads torchvision's, a path reads a file, None is for random.
    """

    def __init__(self, weights: Weights = DEFAULT) -> None:
        super().__init__()
        self.weights = weights

    def load_graphdef(self) -> InceptionV1:
        """Load the weights; Lucid's call before anything else."""
        loaded = load("torchvision:googlenet", weights=self.weights)
        # torchvision's own two normalisations, one after the other, are (x - 0.5) / 0.5
        self._tapped = wrap(LucidNames(loaded.net), mean=0.5, std=0.5, labels=loaded.labels, name="InceptionV1")
        return self


@final
class LucidNames(nn.Module):
    """The layers of torchvision's GoogLeNet in a forward of our own, so that each has a module with Lucid's name."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.conv2d0, self.conv2d1, self.conv2d2 = net.conv1, net.conv2, net.conv3
        self.pools = nn.ModuleList([net.maxpool1, net.maxpool2, net.maxpool3, net.maxpool4])
        self.blocks = nn.ModuleDict({name: getattr(net, f"inception{name}") for name in BLOCKS})
        for name in BLOCKS:
            setattr(self, f"mixed{name}_pre_relu", nn.Identity())
            setattr(self, f"mixed{name}", nn.ReLU())
        self.avgpool, self.softmax2_pre_activation = net.avgpool, net.fc

    def forward(self, x: Tensor) -> Tensor:
        x = self.pools[0](self.conv2d0(x))
        x = self.pools[1](self.conv2d2(self.conv2d1(x)))
        for name in BLOCKS:
            if name in ("4a", "5a"):
                x = self.pools[2 if name == "4a" else 3](x)
            x = getattr(self, f"mixed{name}_pre_relu")(_before_relu(self.blocks[name], x))
            x = getattr(self, f"mixed{name}")(x)
        return self.softmax2_pre_activation(torch.flatten(self.avgpool(x), 1))


def _before_relu(block: Any, x: Tensor) -> Tensor:
    """The four branches of an inception block, before the ReLU that ends each."""
    inner = [block.branch1, block.branch2[1], block.branch3[1], block.branch4[1]]
    inputs = [x, block.branch2[0](x), block.branch3[0](x), block.branch4[0](x)]
    return torch.cat([layer.bn(layer.conv(value)) for layer, value in zip(inner, inputs, strict=True)], 1)


def as_tapped(model: Any) -> TappedModel:
    """The network of whatever ``render_vis`` is given: a model of this module, or one of featureviz."""
    if isinstance(model, Model):
        return model.tapped
    if isinstance(model, TappedModel):
        return model
    raise InvalidInput(
        f"model={show(model)} was given; expected models.InceptionV1(), or a network of yours: fv.wrap(net, mean=...)"
    )
