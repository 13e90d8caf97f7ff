"""One pass over images for any units: what is kept of a layer's maps while they exist, and what is accumulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, final

import torch
from torch import Tensor

from featureviz.lab.statistics.measuring import check_finite
from featureviz.lab.statistics.pictures import Batch
from featureviz.lab.statistics.streams import Change, Extremes, Histogram, Moments
from featureviz.lab.statistics.units.boxes import Grid, find_grid, find_places, make_boxes
from featureviz.network.axes import Axes
from featureviz.network.in_force import check_batch
from featureviz.network.model import TappedModel
from featureviz.network.taps import Tap

Ends = tuple[Tensor, Tensor]  # at the low and at the high end


class Seen(NamedTuple):
    """What a layer's maps of a batch give: scores ``[B,C]``, the extremes with them, and the boxes of these."""

    scores: Tensor
    extremes: Extremes
    changes: tuple[Change, Change]
    boxes: Ends


@final
@dataclass(frozen=True)
class LayerTotals:
    """Everything accumulated for the units of one layer; ``boxes`` are ``[K,C,4]`` and ``values`` ``[K,C]``."""

    units: Tensor  # their numbers, [C]
    moments: Moments
    histogram: Histogram
    extremes: Extremes
    boxes: Ends
    values: Ends | None  # of gates

    @classmethod
    def empty(cls, units: Tensor, most: int, *, joint: bool, gates: bool) -> LayerTotals:
        count = len(units)
        boxes, values = (torch.zeros(0, count, *size, dtype=torch.float32, device="cpu") for size in ((4,), ()))
        return cls(
            units, Moments.empty(count, joint=joint), Histogram.empty(count), Extremes.empty(count, most),
            (boxes, boxes), (values, values) if gates else None,
        )  # fmt: skip

    def see(self, maps: Tensor, grid: Grid, batch: Batch, layer: str) -> Seen:
        """What is kept of the maps ``[B,C,P]`` of a batch: only those of new extremes are searched for their places."""
        scores = average(maps)[:, self.units]
        first = self.moments.count
        check_finite(scores, f"the averages of layer {layer!r}", batch, first)
        extremes, *changes = self.extremes.merge(scores, first)

        def find(largest: bool, rows: Tensor, columns: Tensor) -> Tensor:
            chosen = maps[rows.to(maps.device), self.units[columns].to(maps.device)]
            return make_boxes(find_places(chosen, largest=largest).cpu(), grid)

        low, high = (c.carry_some(self.boxes[i], partial(find, i == 1)) for i, c in enumerate(changes))
        return Seen(scores, extremes, (changes[0], changes[1]), (low, high))

    def add(self, seen: Seen, values: Tensor | None) -> LayerTotals:
        """With one more batch, and of gates the values ``[B,C]``."""
        ends = self.values
        if values is not None and ends is not None:
            own = values[:, self.units]
            ends = seen.changes[0].carry(ends[0], own), seen.changes[1].carry(ends[1], own)
        return LayerTotals(
            self.units, self.moments.add(seen.scores), self.histogram.add(seen.scores), seen.extremes, seen.boxes, ends
        )


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


@final
@dataclass(frozen=True)
class RunningUnits:
    """The totals of every layer after ``count`` images; ``gates`` says where the values of its gates are read."""

    layers: Mapping[str, LayerTotals]
    gates: Mapping[str, str]
    count: int = 0

    def add(self, reader: MapReader, batch: Batch) -> RunningUnits:
        """With one more batch. After an error or Ctrl-C no layer contains the batch."""
        check_batch(reader.model.key, len(batch.images))
        running = self
        for part in _split(batch) if reader.model.running.alone else [batch]:
            running = running._add(reader, part)
        return running

    def _add(self, reader: MapReader, batch: Batch) -> RunningUnits:
        seen, values = dict[str, Seen](), dict[str, Tensor]()
        wanted = set(self.gates.values())

        def take(name: str, maps: Tensor, grid: Grid) -> None:
            if name in self.layers:
                seen[name] = self.layers[name].see(maps, grid, batch, name)
            if name in wanted:
                values[name] = average(maps)

        reader.stream(batch.images, take)
        of_gates = {name: values[tap] for name, tap in self.gates.items()}
        layers = {name: total.add(seen[name], of_gates.get(name)) for name, total in self.layers.items()}
        return RunningUnits(layers, self.gates, self.count + len(batch.images))


def average(maps: Tensor) -> Tensor:
    """``[B,C]`` on the CPU: the mean over positions, which is what ``fv.Channel`` and ``fv.Gate`` score."""
    return maps.mean(2).float().cpu()


def _split(batch: Batch) -> list[Batch]:
    names = batch.names or ()
    return [Batch(image[None], None, names[i : i + 1] or None) for i, image in enumerate(batch.images)]
