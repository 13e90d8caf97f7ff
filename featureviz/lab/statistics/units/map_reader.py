"""The maps of layers while one forward runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from featureviz.lab.statistics.units.boxes import Grid, find_grid
from featureviz.network.axes import Axes
from featureviz.network.model import TappedModel
from featureviz.network.taps import Tap


@final
class MapReader:
    """Reads layers of a model; where they are read is found once for each size of images."""

    def __init__(self, model: TappedModel, layers: Sequence[str]) -> None:
        self.model, self.layers = model, tuple(dict.fromkeys(layers))
        self._taps: dict[tuple[int, int], dict[str, Tap]] = {}

    def stream(self, images: Tensor, take: Callable[[str, Tensor, Grid], None]) -> None:
        """Call ``take(name, maps, grid)`` for every layer while one forward runs; maps are ``[B,C,P]`` of P positions.

        P is 1 if a layer has no positions. No map is kept, so the memory is that of the forward alone.
        """
        images = images.to(self.model.device)
        size = (images.shape[-2], images.shape[-1])
        taps = self._taps.get(size) or self._taps.setdefault(size, self.model.taps(self.layers, size))

        def pass_on(name: str, tensor: Tensor, _stays: bool) -> None:
            axes = taps[name].axes or Axes.channels_first(tensor.ndim)
            maps = axes.to_channels_first(tensor, len(images), name)
            take(name, maps.flatten(2) if maps.ndim > 2 else maps[:, :, None], find_grid(axes, tuple(maps.shape[2:])))

        with torch.no_grad():
            self.model.isolated().stream(images, taps, pass_on)


def average(maps: Tensor) -> Tensor:
    """``[B,C]`` on the CPU: the mean over positions, which is what ``fv.Channel`` and ``fv.Gate`` score."""
    return maps.mean(2).float().cpu()
