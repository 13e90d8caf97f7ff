"""Statistics of many variables that are updated batch by batch and do not keep the observations.

All are immutable: ``add`` returns a new statistic that includes the observations ``[B,C]`` of C variables. So a caller
that is interrupted still has a complete statistic. The split into batches changes only the rounding of float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

BINS = 512
CHUNK = 4096  # variables whose bins are moved at once: 60 MB


@final
@dataclass(frozen=True)
class Moments:
    """Count, mean ``[C]``, and sums of squared deviations ``[C]``, or of products of deviations ``[C,C]`` if joint.

    Batches are merged pairwise in float64 (Chan, Golub & LeVeque 1979), which loses no digits if the mean is far from
    zero.
    """

    count: int
    mean: Tensor
    products: Tensor

    @classmethod
    def empty(cls, channels: int, *, joint: bool = False) -> Moments:
        shape = (channels, channels) if joint else (channels,)
        return cls(0, *(torch.zeros(size, dtype=torch.float64, device="cpu") for size in ((channels,), shape)))

    def add(self, x: Tensor) -> Moments:
        x = x.double()
        count, joint, mean = self.count + len(x), self.products.ndim == 2, x.mean(0)
        deviations, step = x - mean, mean - self.mean
        inside = deviations.T @ deviations if joint else deviations.square().sum(0)
        between = torch.outer(step, step) if joint else step.square()
        products = self.products + inside + between * (self.count * len(x) / count)
        return Moments(count, self.mean + step * (len(x) / count), products)

    @property
    def squares(self) -> Tensor:
        """The sums of squared deviations, ``[C]``."""
        return self.products.diagonal() if self.products.ndim == 2 else self.products

    @property
    def covariance(self) -> Tensor:
        """The sample's covariance (n - 1), ``[C,C]``; only if joint."""
        return self.products / max(1, self.count - 1)

    @property
    def sd(self) -> Tensor:
        """The sample's standard deviation (n - 1), ``[C]``."""
        return (self.squares / max(1, self.count - 1)).sqrt()


@final
@dataclass(frozen=True)
class Histogram:
    """Exact counts ``[C,512]`` in bins that cover the range from the smallest observation to the largest.

    A bin is ``[j w, (j + 1) w)``. The width w is the smallest power of two at which the range fits. When the range no
    longer fits, w doubles and neighbouring bins merge. So w is at most ``2 (high - low) / 511``, and the counts do not
    depend on the order of the observations.
    """

    counts: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def empty(cls, channels: int) -> Histogram:
        ends = torch.full((channels,), torch.inf, dtype=torch.float64, device="cpu")
        return cls(torch.zeros(channels, BINS, dtype=torch.int32, device="cpu"), ends, -ends)

    def add(self, x: Tensor) -> Histogram:
        x = x.double()
        low, high = self.low.minimum(x.amin(0)), self.high.maximum(x.amax(0))
        width = bin_width(low, high)
        counts, first = self._rebin(low, width), (low / width).floor()
        bins = (x / width).floor() - first
        counts.scatter_add_(1, bins.long().T, torch.ones_like(bins.T, dtype=torch.int32))
        return Histogram(counts, low, high)

    @property
    def width(self) -> Tensor:
        """The width of a bin, ``[C]``."""
        return bin_width(self.low, self.high)

    @property
    def start(self) -> Tensor:
        """Where the first bin begins, ``[C]``."""
        return (self.low / self.width).floor() * self.width

    def values_at(self, ranks: Tensor) -> Tensor:
        """The observations of these ranks (0 is the smallest), ``[R]`` to ``[R,C]``, exact to a bin's width."""
        cumulated = self.counts.cumsum(1)
        wanted = ranks.to(cumulated.dtype).expand(len(cumulated), -1).contiguous()
        bins = torch.searchsorted(cumulated, wanted, right=True).clamp(max=BINS - 1)
        inside = self.counts.gather(1, bins)
        share = ((wanted - cumulated.gather(1, bins) + inside).double() + 0.5) / inside
        values = self.start[:, None] + (bins + share) * self.width[:, None]
        return values.maximum(self.low[:, None]).minimum(self.high[:, None]).T

    def _rebin(self, low: Tensor, new: Tensor) -> Tensor:
        """A copy of the counts in bins of the ``new`` width from ``low`` on; most variables keep their bins."""
        counts, old = self.counts.clone(), self.width
        first, start = (self.low / old).floor(), (low / new).floor()
        (moved,) = (self.low.isfinite() & ((old != new) | (first != start))).nonzero(as_tuple=True)
        for some in moved.split(CHUNK):
            index = first[some, None] + torch.arange(BINS, device="cpu")
            index = (index * (old / new)[some, None]).floor() - start[some, None]
            # Bins beyond the largest observation are empty, so clamping them changes no count.
            index = index.long().clamp(0, BINS - 1)
            counts[some] = torch.zeros_like(counts[some]).scatter_add_(1, index, counts[some])
        return counts


def bin_width(low: Tensor, high: Tensor) -> Tensor:
    """The smallest power of two at which [low, high] fits into the bins and float32 distinguishes the bins."""

    def exponent(x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.frexp(x).exponent, -1000)

    span, size = (high - low) / (BINS - 1), torch.maximum(low.abs(), high.abs())
    wanted = torch.maximum(exponent(span), exponent(size) - 25)  # float32 has 24 digits
    return ((wanted.clamp(min=-149).long() + 1023) << 52).view(torch.float64)  # exactly 2^wanted: its bits


@final
@dataclass(frozen=True)
class Extremes:
    """The K smallest and K largest observations of each variable, exactly, with the number of each: ``[K,C]``.

    The most extreme come first; of equal observations the earlier comes first.
    """

    lowest: Tensor
    lowest_numbers: Tensor
    highest: Tensor
    highest_numbers: Tensor
    most: int

    @classmethod
    def empty(cls, channels: int, most: int) -> Extremes:
        values, numbers = (torch.zeros(0, channels, dtype=d, device="cpu") for d in (torch.float32, torch.int64))
        return cls(values, numbers, values, numbers, most)

    def add(self, x: Tensor, first: int) -> Extremes:
        """With the observations number ``first``, ``first + 1``, ..."""
        return self.merge(x, first)[0]

    def merge(self, x: Tensor, first: int) -> tuple[Extremes, Change, Change]:
        """As ``add``, and how the low and the high end change."""
        low, high = (self._change(x, descending) for descending in (False, True))
        numbers = (first + torch.arange(len(x), device="cpu"))[:, None].expand(-1, x.shape[1])
        lowest, lowest_numbers = (low.carry(o, n) for o, n in ((self.lowest, x), (self.lowest_numbers, numbers)))
        highest, highest_numbers = (high.carry(o, n) for o, n in ((self.highest, x), (self.highest_numbers, numbers)))
        return Extremes(lowest, lowest_numbers, highest, highest_numbers, self.most), low, high

    def may_enter(self, x: Tensor, columns: slice, largest: bool) -> Tensor:
        """``[B,C]``: which observations x of these variables may enter an end: all that do, and few others."""
        values = (self.highest if largest else self.lowest)[:, columns]
        if len(values) == self.most:
            return x > values[-1] if largest else x < values[-1]
        last = x.topk(min(self.most, len(x)), dim=0, largest=largest).values[-1]
        return x >= last if largest else x <= last

    def _change(self, x: Tensor, descending: bool) -> Change:
        """Only those variables are sorted for which one of the observations x enters."""
        values = self.highest if descending else self.lowest
        enters = torch.ones_like(x[0], dtype=torch.bool)
        if len(values) == self.most:
            enters = x.amax(0) > values[-1] if descending else x.amin(0) < values[-1]
        (columns,) = enters.nonzero(as_tuple=True)
        merged = torch.cat([values[:, columns], x[:, columns]])
        order = merged.argsort(dim=0, descending=descending, stable=True)[: self.most]
        return Change(columns, order, len(values))


@final
@dataclass(frozen=True)
class Change:
    """How one end of the ``Extremes`` changes with a batch.

    ``columns`` are the variables for which something enters, and ``order`` ``[K,c]`` says what their ranks become: an
    old rank below ``kept``, and from there on a row of the batch.
    """

    columns: Tensor
    order: Tensor
    kept: int

    def carry(self, notes: Tensor, new: Tensor) -> Tensor:
        """``[K,C]`` from the notes on the old ranks and those on the batch, ``[B,C]``."""
        return self.carry_some(notes, lambda rows, columns: new[rows, columns])

    def carry_some(self, notes: Tensor, find: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """As ``carry``, for ``[K,C,...]``, where ``find(rows, columns)`` makes the new notes ``[E,...]``."""
        if not len(self.columns):
            return notes
        shape = (*self.order.shape, *notes.shape[2:])
        moved = notes[self.order.clamp(max=self.kept - 1), self.columns] if self.kept else notes.new_zeros(shape)
        rank, column = (self.order >= self.kept).nonzero(as_tuple=True)
        moved[rank, column] = find(self.order[rank, column] - self.kept, self.columns[column])
        return moved if len(self.columns) == notes.shape[1] else notes.index_copy(1, self.columns, moved)


def quantiles(levels: tuple[float, ...], count: int, extremes: Extremes, histogram: Histogram) -> Tensor:
    """Quantiles ``[Q,C]`` of ``count`` observations, interpolated between neighbours as ``torch.quantile`` does.

    A quantile is exact if both neighbours are among the extremes: everywhere, if ``count`` is at most twice their
    number. Otherwise the error is below one bin of the histogram, which is below 1/255 of the range (high - low).
    """
    position = torch.tensor(levels, dtype=torch.float64, device="cpu") * (count - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=count - 1)
    ranks, where = torch.cat([below, above]).unique(return_inverse=True)
    kept = len(extremes.lowest)
    low, high = extremes.lowest.double(), extremes.highest.double()
    between = histogram.values_at(ranks).maximum(low[-1]).minimum(high[-1])
    from_low = low[ranks.clamp(max=kept - 1)]
    from_high = high[(count - 1 - ranks).clamp(max=kept - 1)]
    values = torch.where((ranks >= count - kept)[:, None], from_high, between)
    values = torch.where((ranks < kept)[:, None], from_low, values)[where]
    start, end = values[: len(levels)], values[len(levels) :]
    return start + (end - start) * (position - below)[:, None]


def percentiles(known: Tensor, levels: tuple[float, ...], values: Tensor) -> Tensor:
    """The percentiles, 0 to 100, of ``values`` of any shape among quantiles ``known`` ``[Q]`` at these levels."""
    known, values = known.contiguous(), values.to(known).contiguous()
    at = torch.tensor(levels, dtype=known.dtype, device=known.device)
    ranks = []
    for after in (False, True):  # the mean of both ranks puts the one value of a constant variable at 50
        right = torch.searchsorted(known, values, right=after).clamp(1, len(known) - 1)
        low, high = known[right - 1], known[right]
        share = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        ranks.append(at[right - 1] + share * (at[right] - at[right - 1]))
    return 50 * (ranks[0] + ranks[1])


@final
@dataclass(frozen=True)
class ClassSums:
    """For each class: its number ``[K]`` (ascending), the count ``[K]`` and the sum ``[K,C]`` of its observations."""

    classes: Tensor
    counts: Tensor
    sums: Tensor

    @classmethod
    def empty(cls, channels: int) -> ClassSums:
        none = torch.zeros(0, dtype=torch.int64, device="cpu")
        return cls(none, none, torch.zeros(0, channels, dtype=torch.float64, device="cpu"))

    def add(self, x: Tensor, labels: Tensor) -> ClassSums:
        classes = torch.cat([self.classes, labels]).unique()
        counts = torch.zeros_like(classes)
        sums = torch.zeros(len(classes), x.shape[1], dtype=torch.float64, device="cpu")
        old, new = torch.searchsorted(classes, self.classes), torch.searchsorted(classes, labels)
        counts.index_add_(0, old, self.counts).index_add_(0, new, torch.ones_like(labels))
        sums.index_add_(0, old, self.sums).index_add_(0, new, x.double())
        return ClassSums(classes, counts, sums)

    @property
    def means(self) -> Tensor:
        return self.sums / self.counts[:, None]

    def explained(self, moments: Moments) -> Tensor:
        """``eta^2``, the share of the variance that lies between classes, ``[C]``; 0 for a constant variable."""
        between = (self.counts[:, None] * (self.means - moments.mean).square()).sum(0)
        total = moments.squares
        return torch.where(total > 0, between / total.clamp(min=1e-300), 0.0).clamp(max=1)
