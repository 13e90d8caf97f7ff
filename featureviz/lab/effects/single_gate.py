"""What one gate is for: the network with it held, against the network as it is."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.gating.interventions import clamp
from featureviz.lab.effects.effect import Effect
from featureviz.lab.statistics.pictures import BATCH
from featureviz.network.model import TappedModel, tapped
from featureviz.network.taps import OUTPUT


@final
@dataclass(frozen=True)
class Held:
    """What holding a gate at ``value`` does to a layer, over ``count`` images.

    ``change`` is ``|a - b| / |a|`` of its activations, the mean over images. Where the layer is the network's output
    and gives class scores ``[M,K]`` also ``divergence``, KL(before | after) in nats, and ``flipped``, the share of
    images whose first class is another.
    """

    value: float
    count: int
    change: float
    divergence: float | None
    flipped: float | None


@final
class Holding:
    """A layer's activations on images, once, to compare with those when single gates are held.

    Args:
        model: a network with channel gates.
        images: ``[N,3,H,W]`` in [0,1], as the network sees them.
        layer: what is compared; give the deepest trained one of a network without its head.

    >>> import featureviz as fv
    >>> holding = Holding(fv.load("embedded"), torch.rand(4, 3, 64, 64))
    >>> shut = holding.at("features.9.block.2", 7, 0.0)
    >>> shut.count, shut.change > 0
    (4, True)
    """

    def __init__(self, model: TappedModel, images: Tensor, layer: str = OUTPUT) -> None:
        if not len(images):
            raise InvalidInput("no images were given; holding a gate is measured on at least 1")
        self.model, self.images, self.layer = tapped(model), images, layer
        self.before = self._run()

    def at(self, site: str, unit: int, value: float) -> Held:
        """The effect of holding one gate at ``value``."""
        with clamp(self.model, site, value, units=[unit]):
            after = self._run()
        scores = self.layer == OUTPUT and self.before.ndim == 2
        return Held(value, *astuple(Effect.of(self.before, after, scores=scores)))

    def _run(self) -> Tensor:
        with torch.no_grad():
            taken = [
                self.model(images.to(self.model.device), [self.layer])[self.layer].float().cpu()
                for images in self.images.split(BATCH)
            ]
        return torch.cat(taken)
