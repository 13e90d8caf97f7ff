"""One pass over images for any units: what is kept of a batch's maps while they exist, and what is accumulated.

The units of all layers are columns of the same tensors, so that a batch is added by a few operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from featureviz.lab.statistics.measuring import check_finite
from featureviz.lab.statistics.pictures import Batch
from featureviz.lab.statistics.streams import Change, Extremes, Histogram, Moments
from featureviz.lab.statistics.units.boxes import Grid, find_places, make_boxes
from featureviz.lab.statistics.units.map_reader import MapReader, average
from featureviz.network.in_force import check_batch

Ends = tuple[Tensor, Tensor]  # at the low and at the high end


class Part(NamedTuple):
    """One layer's share: its columns, the numbers of its units ``[C]``, and where the values of its gates are read."""

    columns: slice
    units: Tensor
    values: str = ""


def make_parts(units: Mapping[str, Tensor], gates: Mapping[str, str]) -> dict[str, Part]:
    """The columns of every layer, one layer after the other."""
    parts, start = dict[str, Part](), 0
    for name, numbers in units.items():
        parts[name] = Part(slice(start, start + len(numbers)), numbers, gates.get(name, ""))
        start += len(numbers)
    return parts


@final
class Seen:
    """What is kept of one batch: scores and values ``[B,U]``, and the places of those that may become extremes."""

    def __init__(self, batch: Batch, units: int) -> None:
        self.batch, shape = batch, (len(batch.images), units)
        self.scores, self.values = (torch.zeros(shape, dtype=torch.float32, device="cpu") for _ in range(2))
        self.places = tuple(torch.zeros(shape, dtype=torch.int64, device="cpu") for _ in range(2))
        self.grids = torch.ones(len(Grid._fields), units, dtype=torch.int64, device="cpu")

    def keep(self, layer: str, part: Part, maps: Tensor, grid: Grid, totals: UnitTotals) -> None:
        """Keep the averages of the maps ``[B,C,P]``, and the places in those maps that may become extremes."""
        scores = average(maps)[:, part.units]
        check_finite(scores, f"the averages of layer {layer!r}", self.batch, totals.moments.count)
        self.scores[:, part.columns] = self.values[:, part.columns] = scores
        self.grids[:, part.columns] = torch.tensor(grid, device="cpu")[:, None]
        for places, largest in zip(self.places, (False, True), strict=True):
            rows, found = totals.extremes.may_enter(scores, part.columns, largest).nonzero(as_tuple=True)
            chosen = maps[rows.to(maps.device), part.units[found].to(maps.device)]
            places[rows, found + part.columns.start] = find_places(chosen, largest=largest).cpu()

    def carry_boxes(self, end: int, change: Change, boxes: Tensor) -> Tensor:
        """The boxes ``[K,U,4]`` at an end after the change."""
        places = self.places[end]
        return change.carry_some(boxes, lambda rows, units: make_boxes(places[rows, units], self.grids[:, units]))


@final
@dataclass(frozen=True)
class UnitTotals:
    """Everything accumulated for U units; at each end are ``boxes`` ``[K,U,4]`` and ``values`` ``[K,U]``."""

    moments: Moments
    histogram: Histogram
    extremes: Extremes
    boxes: Ends
    values: Ends

    @classmethod
    def empty(cls, units: int, most: int) -> UnitTotals:
        boxes, values = (torch.zeros(0, units, *size, dtype=torch.float32, device="cpu") for size in ((4,), ()))
        return cls(
            Moments.empty(units), Histogram.empty(units), Extremes.empty(units, most), (boxes, boxes), (values, values)
        )

    def add(self, seen: Seen) -> UnitTotals:
        """With one more batch."""
        extremes, low, high = self.extremes.merge(seen.scores, self.moments.count)
        boxes = seen.carry_boxes(0, low, self.boxes[0]), seen.carry_boxes(1, high, self.boxes[1])
        values = low.carry(self.values[0], seen.values), high.carry(self.values[1], seen.values)
        return UnitTotals(self.moments.add(seen.scores), self.histogram.add(seen.scores), extremes, boxes, values)

    def select(self, columns: slice) -> UnitTotals:
        """The totals of some of the units."""
        m, h, e = self.moments, self.histogram, self.extremes
        low, low_numbers, high, high_numbers = (
            tensor[:, columns] for tensor in (e.lowest, e.lowest_numbers, e.highest, e.highest_numbers)
        )
        return UnitTotals(
            Moments(m.count, m.mean[columns], m.products[columns]),
            Histogram(h.counts[columns], h.low[columns], h.high[columns]),
            Extremes(low, low_numbers, high, high_numbers, e.most),
            (self.boxes[0][:, columns], self.boxes[1][:, columns]),
            (self.values[0][:, columns], self.values[1][:, columns]),
        )  # fmt: skip


@final
@dataclass(frozen=True)
class RunningUnits:
    """The totals after some images; ``joint`` are those of every two units of a layer, if they are wanted."""

    parts: Mapping[str, Part]
    totals: UnitTotals
    joint: Mapping[str, Moments]

    @classmethod
    def empty(cls, parts: Mapping[str, Part], most: int, joint: bool) -> RunningUnits:
        sizes = {name: len(part.units) for name, part in parts.items()}
        together = {name: Moments.empty(size, joint=True) for name, size in sizes.items()} if joint else {}
        return cls(parts, UnitTotals.empty(sum(sizes.values()), most), together)

    @property
    def count(self) -> int:
        return self.totals.moments.count

    def add(self, reader: MapReader, batch: Batch) -> RunningUnits:
        """With one more batch. After an error or Ctrl-C no layer contains the batch."""
        check_batch(reader.model.key, len(batch.images))
        running = self
        for part in _split(batch) if reader.model.running.alone else [batch]:
            running = running._add(reader, part)
        return running

    def _add(self, reader: MapReader, batch: Batch) -> RunningUnits:
        seen, values = Seen(batch, self.totals.histogram.low.numel()), dict[str, Tensor]()
        of_gates = {part.values for part in self.parts.values()}

        def take(name: str, maps: Tensor, grid: Grid) -> None:
            if name in self.parts:
                seen.keep(name, self.parts[name], maps, grid, self.totals)
            if name in of_gates:
                values[name] = average(maps)

        reader.stream(batch.images, take)
        for part in self.parts.values():
            if part.values:
                seen.values[:, part.columns] = values[part.values][:, part.units]
        joint = {name: m.add(seen.scores[:, self.parts[name].columns]) for name, m in self.joint.items()}
        return RunningUnits(self.parts, self.totals.add(seen), joint)


def _split(batch: Batch) -> Iterable[Batch]:
    """Batches of one image."""
    names = batch.names or ()
    return (Batch(image[None], None, names[i : i + 1] or None) for i, image in enumerate(batch.images))
