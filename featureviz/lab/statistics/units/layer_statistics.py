"""The statistics of one layer's units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from featureviz.checks import holds_numbers
from featureviz.lab.statistics.co_gating import correlation
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.streams import BINS, Moments, quantiles
from featureviz.lab.statistics.units.totals import UnitTotals

SHOWN_BINS = 64  # of a histogram that is kept; of these 32 to 64 hold something, unless a unit hardly varies
WHOLE_NUMBERS = ("units", "histogram_counts", "lowest_images", "highest_images")


@final
@dataclass(frozen=True, eq=False, repr=False)
class LayerStatistics:
    """C units of one layer on N natural images; the most extreme image of K comes first; the sd is that of a sample.

    The score of a channel is its mean over positions, as ``fv.Channel`` scores it; that of a gate is its logit, as
    ``fv.Gate`` scores it. The values are those of the gates; of other units they are the scores.
    """

    units: Tensor  # their numbers, ascending, [C]
    mean: Tensor  # of the scores, [C]
    sd: Tensor  # [C]
    quantiles: Tensor  # at the levels of ``gate_statistics.LEVELS``, [Q,C]
    histogram_counts: Tensor  # [C,64]
    histogram_start: Tensor  # where the first bin of each unit begins, [C]
    histogram_width: Tensor  # of the bins of each unit, [C]
    lowest: Tensor  # the smallest scores, ascending, [K,C]
    lowest_images: Tensor  # the numbers of the images of ``lowest``, [K,C]
    lowest_values: Tensor  # [K,C]
    lowest_boxes: Tensor  # where the smallest number of the map is, [K,C,4]: y0, x0, y1, x1 in shares of the image
    highest: Tensor  # the largest scores, descending, [K,C]
    highest_images: Tensor  # [K,C]
    highest_values: Tensor  # [K,C]
    highest_boxes: Tensor  # where the largest number of the map is, [K,C,4]
    noise: Tensor  # the scores on the model's noise, which tell another network, [C]
    correlation: Tensor | None = None  # of the scores of every two units, [C,C]; a constant unit gets 0

    def __repr__(self) -> str:
        return f"LayerStatistics({len(self.units)} units, {len(self.lowest)} images at each end)"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, without those that were not measured."""
        return {f.name: tensor for f in fields(self) if (tensor := getattr(self, f.name)) is not None}

    @classmethod
    def from_totals(cls, units: Tensor, totals: UnitTotals, joint: Moments | None, noise: Tensor) -> LayerStatistics:
        """The statistics after the last batch; ``joint`` are the moments of every two units, if measured."""
        moments, histogram, extremes, factor = totals.moments, totals.histogram, totals.extremes, BINS // SHOWN_BINS
        tensors = {
            "units": units, "mean": moments.mean, "sd": moments.sd,
            "quantiles": quantiles(LEVELS, moments.count, extremes, histogram),
            "histogram_counts": histogram.counts.unflatten(1, (SHOWN_BINS, factor)).sum(2, dtype=torch.int32),
            "histogram_start": histogram.start, "histogram_width": histogram.width * factor, "noise": noise,
            "lowest": extremes.lowest, "lowest_images": extremes.lowest_numbers,
            "lowest_values": totals.values[0], "lowest_boxes": totals.boxes[0],
            "highest": extremes.highest, "highest_images": extremes.highest_numbers,
            "highest_values": totals.values[1], "highest_boxes": totals.boxes[1],
        }  # fmt: skip
        if joint is not None:
            tensors["correlation"] = correlation(joint.covariance, joint.mean)
        exact = ("histogram_start", "histogram_width")  # the edges of bins are exact in float64 only
        full = {k: v.float() if v.is_floating_point() and k not in exact else v for k, v in tensors.items()}
        return cls(**{k: v.clone() for k, v in full.items()})  # torch.save would store the storage behind a view

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], count: int) -> LayerStatistics:
        """What ``tensors`` of statistics on ``count`` images were; ``ValueError`` if they cannot have been."""
        units, kept = tensors["units"].numel(), len(tensors["lowest"])
        shapes = {
            "quantiles": [len(LEVELS), units], "histogram_counts": [units, SHOWN_BINS], "correlation": [units, units],
        }  # fmt: skip
        for name, tensor in tensors.items():
            end = [kept, units, 4] if name.endswith("_boxes") else [kept, units]
            shape = shapes.get(name, end if name.startswith(("lowest", "highest")) else [units])
            if not holds_numbers(tensor) or list(tensor.shape) != shape or not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} should be finite numbers {shape}: measure again")
            if tensor.is_floating_point() == (name in WHOLE_NUMBERS):
                raise ValueError(f"{name} is {tensor.dtype}: measure again")
            if name.endswith("_images") and not bool(((tensor >= 0) & (tensor < count)).all()):
                raise ValueError(f"{name} should be from 0 to {count - 1}: measure again")
        return cls(**tensors)
