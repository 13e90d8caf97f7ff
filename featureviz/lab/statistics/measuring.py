"""One pass over images: what is read from each batch, what is accumulated, and the final statistics."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, final

import torch
from torch import Tensor

from featureviz.checks import flag
from featureviz.errors import InvalidInput, ModelError
from featureviz.lab.statistics.co_gating import correlation, effective_rank
from featureviz.lab.statistics.pictures import Batch, Pictures, Skipped, Source, batches
from featureviz.lab.statistics.streams import (
    ClassSums,
    Extremes,
    Histogram,
    Moments,
    quantiles,
)  # fmt: skip
from featureviz.network.in_force import check_batch
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.surroundings import postponed_interrupts, progress_bar
from featureviz.network.taps import GATE, GATE_VALUE, PRE_GATE
from featureviz.rng import Rng

OPEN, SHUT = 0.99, 0.01  # a gate is open at a value of at least OPEN, and shut at a value of at most SHUT


class Running(Protocol):
    """Totals after ``count`` images, which never change: a batch more gives new ones."""

    @property
    def count(self) -> int: ...


R = TypeVar("R", bound=Running)


@final
@dataclass(frozen=True)
class Measured(Generic[R]):
    """The totals of a pass; the names of the images by number, unread files, classes, and whether Ctrl-C ended it."""

    totals: R
    names: Mapping[int, str]
    skipped: tuple[Skipped, ...]
    classes: tuple[str, ...]
    interrupted: bool

    def names_of(self, numbers: Tensor) -> dict[int, str]:
        """The names of the images with these numbers, where they are known."""
        return {i: self.names[i] for i in numbers.unique().tolist() if i in self.names}


def measure_all(
    source: Source, size: tuple[int, int], empty: R, add: Callable[[R, Batch], R], *, progress: bool, what: str
) -> Measured[R]:
    """``empty`` with every batch of ``source`` added; Ctrl-C after the second image ends the pass early.

    ``what`` is written before the bar. Pictures of a folder are cropped to ``size``.

    Raises:
        InvalidInput: fewer than 2 images.
    """
    source = Pictures(source, size) if isinstance(source, str | os.PathLike) else source
    totals, names, interrupted = empty, dict[int, str](), False
    total = len(source) if isinstance(source, Pictures) or (isinstance(source, Tensor) and source.ndim) else None
    with (
        postponed_interrupts() as interrupt,
        progress_bar(flag("progress", progress), total=total, desc=what, unit="image") as bar,
    ):
        try:
            for batch in batches(source, size):
                names.update(enumerate(batch.names or (), totals.count))
                totals = add(totals, batch)
                if bar is not None:
                    bar.update(len(batch.images))
                interrupt()
        except KeyboardInterrupt:
            if totals.count < 2:
                raise
            interrupted = True
    skipped, classes = (tuple(source.skipped), source.classes) if isinstance(source, Pictures) else ((), ())
    if totals.count < 2:
        left = f" ({len(skipped)} files could not be read)" if skipped else ""
        raise InvalidInput(f"{totals.count} images were given{left}; expected at least 2")
    return Measured(totals, names, skipped, classes, interrupted)


@final
@dataclass(frozen=True)
class Distribution:
    """C variables: joint moments, histogram, extremes, and a uniform sample ``[R,C]``."""

    moments: Moments
    histogram: Histogram
    extremes: Extremes
    sample: Tensor

    @classmethod
    def empty(cls, channels: int, extremes: int) -> Distribution:
        moments, histogram = Moments.empty(channels, joint=True), Histogram.empty(channels)
        sample = torch.zeros(0, channels, dtype=torch.float32, device="cpu")
        return cls(moments, histogram, Extremes.empty(channels, extremes), sample)

    def add(self, x: Tensor, slots: Tensor, rows: Tensor) -> Distribution:
        """With the observations ``x`` ``[B,C]``, of which ``rows`` go into these ``slots`` of the sample."""
        extremes = self.extremes.add(x, self.moments.count)
        sample = fill_slots(self.sample, slots, x[rows])
        return Distribution(self.moments.add(x), self.histogram.add(x), extremes, sample)

    def quantiles(self, levels: tuple[float, ...]) -> Tensor:
        return quantiles(levels, self.moments.count, self.extremes, self.histogram)


class GateReadings(NamedTuple):
    """What a block's gates did on a batch, each ``[B,C]`` on the CPU."""

    logits: Tensor
    squeezes: Tensor
    values: Tensor


@final
@dataclass(frozen=True)
class BlockTotals:
    """Everything accumulated for one block; ``ends`` ``[2,C]`` counts the images on which each gate is shut, open."""

    logits: Distribution
    squeezes: Distribution
    values: Moments
    classes: ClassSums
    ends: Tensor

    @classmethod
    def empty(cls, channels: int, extremes: int) -> BlockTotals:
        logits, squeezes = (Distribution.empty(channels, extremes) for _ in range(2))
        ends = torch.zeros(2, channels, dtype=torch.int64, device="cpu")
        return cls(logits, squeezes, Moments.empty(channels), ClassSums.empty(channels), ends)

    def add(self, readings: GateReadings, labels: Tensor | None, slots: Tensor, rows: Tensor) -> BlockTotals:
        ends = torch.stack([(readings.values <= SHUT).sum(0), (readings.values >= OPEN).sum(0)])
        return BlockTotals(
            self.logits.add(readings.logits, slots, rows),
            self.squeezes.add(readings.squeezes, slots, rows),
            self.values.add(readings.values),
            self.classes if labels is None else self.classes.add(readings.values, labels),
            self.ends + ends,
        )

    def to_tensors(self, levels: tuple[float, ...]) -> dict[str, Tensor]:
        """The tensors of ``SiteStatistics``."""
        logits, squeezes, values = self.logits.moments, self.squeezes.moments, self.values
        histogram, extremes = self.logits.histogram, self.logits.extremes
        closed, opened = self.ends.float() / values.count
        tensors = {
            "quantiles": self.logits.quantiles(levels), "logit_mean": logits.mean, "logit_sd": logits.sd,
            "value_mean": values.mean, "value_sd": values.sd, "closed": closed, "opened": opened,
            "static_share": static_share(values),
            "effective_rank": effective_rank(correlation(logits.covariance, logits.mean)),
            "squeeze_quantiles": self.squeezes.quantiles(levels), "squeeze_mean": squeezes.mean,
            "squeeze_sd": squeezes.sd, "logit_covariance": logits.covariance,
            "squeeze_covariance": squeezes.covariance, "logit_sample": self.logits.sample,
            "squeeze_sample": self.squeezes.sample, "histogram_counts": histogram.counts,
            "histogram_start": histogram.start, "histogram_width": histogram.width,
            "lowest": extremes.lowest, "lowest_images": extremes.lowest_numbers,
            "highest": extremes.highest, "highest_images": extremes.highest_numbers,
        }  # fmt: skip
        if len(self.classes.classes):
            tensors |= {"class_means": self.classes.means, "eta_squared": self.classes.explained(values)}
        exact = ("histogram_start", "histogram_width")  # the edges of bins are exact in float64 only
        full = {k: v.float() if v.is_floating_point() and k not in exact else v for k, v in tensors.items()}
        return {k: v.clone() for k, v in full.items()}  # torch.save would store the whole storage behind a view


@final
@dataclass(frozen=True)
class RunningStatistics:
    """The totals of every block after ``count`` images, and the numbers of the images in the sample."""

    blocks: Mapping[str, BlockTotals]
    sample: Tensor
    count: int

    @classmethod
    def empty(cls, sites: Mapping[str, GateSite], extremes: int) -> RunningStatistics:
        blocks = {name: BlockTotals.empty(site.channels, extremes) for name, site in sites.items()}
        return cls(blocks, torch.zeros(0, dtype=torch.int64, device="cpu"), 0)

    def add(self, model: TappedModel, batch: Batch, sample: int, seed: int) -> RunningStatistics:
        """With one more batch. After an error or Ctrl-C no block contains the batch."""
        readings = read_gates(model, batch, self.count)
        slots, rows = draw_sample(seed, self.count, len(batch.images), sample)
        blocks = {name: block.add(readings[name], batch.labels, slots, rows) for name, block in self.blocks.items()}
        numbers = fill_slots(self.sample, slots, self.count + rows)
        return RunningStatistics(blocks, numbers, self.count + len(batch.images))


def read_gates(model: TappedModel, batch: Batch, first: int) -> dict[str, GateReadings]:
    """Logits, squeezes and values of every block, in one forward pass up to the last gate."""
    sites = model.gates.channelwise
    check_batch(model.key, len(batch.images))
    taps = {kind + name: model.tap(kind + name) for name in sites for kind in (GATE, PRE_GATE, GATE_VALUE)}
    readings: dict[str, GateReadings] = {}
    with torch.no_grad():
        activations = model.isolated().read(batch.images.to(model.device), taps)
        for name, site in sites.items():
            logits, x, values = (activations[kind + name].float() for kind in (GATE, PRE_GATE, GATE_VALUE))
            readings[name] = GateReadings(logits.cpu(), site.squeezed(x).cpu(), values.cpu())
            for what, tensor in readings[name]._asdict().items():
                check_finite(tensor, f"the {what} of block {name!r}", batch, first)
    return readings


def static_share(values: Moments) -> Tensor:
    """``1 - E_c[var_n g_c] / var(g)``: the share of the variance of all values that lies between the gates' means.

    It is 1 if no gate depends on the image.
    """
    within = values.products.sum() / (values.count * len(values.mean))
    between = values.mean.var(correction=0)
    return between / (between + within) if float(between + within) > 0 else torch.ones_like(between)


def check_finite(tensor: Tensor, what: str, batch: Batch, first: int) -> None:
    """Raise ``ModelError`` unless all ``[B,C]`` are finite; the images have the numbers from ``first`` on."""
    finite = tensor.isfinite().all(1)
    if not finite.all():
        row = int(finite.int().argmin())
        name = f" ({batch.names[row]})" if batch.names else ""
        raise ModelError(
            f"{what} are not finite on image {first + row}{name}; leave that image out, or look for NaN in the weights"
            " and for overflow in half precision"
        )


def draw_sample(seed: int, first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Which of the observations ``first, first + 1, ...`` enter a uniform sample of ``size``: slots, and their rows.

    Vitter's algorithm R (1985): observation i takes slot i while slots are free. Later it draws one of i + 1 numbers
    and takes that slot if the number is below ``size``. The draw is keyed by (seed, i), so batches do not matter.
    """
    numbers = first + torch.arange(count, device="cpu")
    drawn = torch.where(numbers < size, numbers, Rng(seed, numbers).integers() % (numbers + 1))
    taken = {slot: row for row, slot in enumerate(drawn.tolist()) if slot < size}  # the later row replaces the earlier
    slots, rows = (torch.tensor(list(n), dtype=torch.int64, device="cpu") for n in (taken.keys(), taken.values()))
    return slots, rows


def fill_slots(sample: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """``sample`` with ``rows`` in ``slots``, in a copy that is longer if necessary."""
    if not len(slots):
        return sample
    more = max(0, int(slots.max()) + 1 - len(sample))
    grown = torch.cat([sample, sample.new_zeros(more, *sample.shape[1:])])
    grown[slots] = rows
    return grown
