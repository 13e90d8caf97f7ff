"""Statistics of many variables at once that take their observations batch by batch and never keep them.

Each is a value: ``add`` returns the statistic with ``[B,C]`` more observations of C variables, and leaves the old one
as it was, so that whoever is interrupted half-way still holds a whole one. How the observations were split into
batches changes nothing but the rounding of float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.rng import Rng

BINS = 512


@final
@dataclass(frozen=True)
class Moments:
    """Count, mean ``[C]`` and sums of products of deviations: ``[C]``, or ``[C,C]`` between the variables if joint.

    Merged pairwise in float64 (Chan, Golub & LeVeque 1979), which loses no digits where the mean is far from zero.

    >>> m = Moments.empty(1).add(torch.tensor([[1.0]])).add(torch.tensor([[2.0], [6.0]]))
    >>> m.mean.item(), m.variance.item()
    (3.0, 7.0)
    """

    count: int
    mean: Tensor
    products: Tensor

    @classmethod
    def empty(cls, channels: int, *, joint: bool = False) -> Moments:
        shape = (channels, channels) if joint else (channels,)
        return cls(0, torch.zeros(channels, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64))

    def add(self, x: Tensor) -> Moments:
        x = x.double()
        count, joint = self.count + len(x), self.products.ndim == 2
        mean = x.mean(0)
        apart, step = x - mean, mean - self.mean
        inside = apart.T @ apart if joint else apart.square().sum(0)
        between = torch.outer(step, step) if joint else step.square()
        products = self.products + inside + between * (self.count * len(x) / count)
        return Moments(count, self.mean + step * (len(x) / count), products)

    @property
    def covariance(self) -> Tensor:
        """Of the sample (n - 1), ``[C,C]``; only if joint."""
        return self.products / max(1, self.count - 1)

    @property
    def variance(self) -> Tensor:
        """Of the sample (n - 1), ``[C]``."""
        return (self.products.diagonal() if self.products.ndim == 2 else self.products) / max(1, self.count - 1)

    @property
    def sd(self) -> Tensor:
        return self.variance.sqrt()


@final
@dataclass(frozen=True)
class Histogram:
    """Exact counts ``[C,512]`` on a grid that follows the data, from the smallest seen ``low`` to the largest ``high``.

    A bin is ``[j w, (j + 1) w)`` with w a power of two, the finest at which the range surely fits; when it no longer
    does, w doubles and neighbours merge. So w is at most ``2 (high - low) / 511``, and grid and counts depend on
    the observations alone, not on their order.
    """

    counts: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def empty(cls, channels: int) -> Histogram:
        ends = torch.full((channels,), torch.inf, dtype=torch.float64)
        return cls(torch.zeros(channels, BINS, dtype=torch.int32), ends, -ends)

    def add(self, x: Tensor) -> Histogram:
        x = x.double()
        low, high = self.low.minimum(x.amin(0)), self.high.maximum(x.amax(0))
        counts = self._regridded(low, high)
        bins = (x / grid(low, high)).floor() - (low / grid(low, high)).floor()
        counts.scatter_add_(1, bins.long().T, torch.ones_like(bins.T, dtype=torch.int32))
        return Histogram(counts, low, high)

    @property
    def width(self) -> Tensor:
        """Of a bin, ``[C]``."""
        return grid(self.low, self.high)

    @property
    def start(self) -> Tensor:
        """Where the first bin begins, ``[C]``."""
        return (self.low / self.width).floor() * self.width

    def at(self, ranks: Tensor) -> Tensor:
        """The observations of these ranks (0 is the smallest), ``[R]`` to ``[R,C]``, each within a bin's width."""
        up_to = self.counts.cumsum(1)
        wanted = ranks.to(up_to.dtype).expand(len(up_to), -1).contiguous()
        bins = torch.searchsorted(up_to, wanted, right=True).clamp(max=BINS - 1)
        inside = self.counts.gather(1, bins)
        share = (wanted - up_to.gather(1, bins) + inside + 0.5) / inside
        values = self.start[:, None] + (bins + share) * self.width[:, None]
        return values.maximum(self.low[:, None]).minimum(self.high[:, None]).T

    def _regridded(self, low: Tensor, high: Tensor) -> Tensor:
        if bool(self.low.isinf().any()) or bool((self.low == low).all() & (self.high == high).all()):
            return self.counts.clone()
        old, new = self.width, grid(low, high)
        index = (self.low / old).floor()[:, None] + torch.arange(BINS)
        index = (index * (old / new)[:, None]).floor() - (low / new).floor()[:, None]
        # Bins past the largest observation are empty, wherever they would fall.
        return torch.zeros_like(self.counts).scatter_add_(1, index.long().clamp(0, BINS - 1), self.counts)


def grid(low: Tensor, high: Tensor) -> Tensor:
    """The power of two at which [low, high] surely fits into the bins, and at which bins can be told apart.

    >>> grid(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 5.0])).tolist()
    [0.00390625, 2.384185791015625e-07]
    """
    span, size = (high - low) / (BINS - 1), torch.maximum(low.abs(), high.abs())
    exponent = torch.maximum(_exponent(span), _exponent(size) - 25)  # float32 has 24 digits
    return torch.ldexp(torch.ones_like(low), exponent.clamp(min=-149))


def _exponent(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.frexp(x).exponent, -1000)


@final
@dataclass(frozen=True)
class Extremes:
    """The K smallest and K largest observations of each variable, exactly, with the number of each: ``[K,C]``.

    The outermost come first; of equal ones the earlier.
    """

    lowest: Tensor
    lowest_numbers: Tensor
    highest: Tensor
    highest_numbers: Tensor
    most: int

    @classmethod
    def empty(cls, channels: int, most: int) -> Extremes:
        values, numbers = torch.zeros(0, channels), torch.zeros(0, channels, dtype=torch.int64)
        return cls(values, numbers, values, numbers, most)

    def add(self, x: Tensor, first: int) -> Extremes:
        """With the observations ``first``, ``first + 1``, ..."""
        numbers = (first + torch.arange(len(x)))[:, None].expand(-1, x.shape[1])
        lowest = self._outermost(self.lowest, self.lowest_numbers, x, numbers, False)
        return Extremes(*lowest, *self._outermost(self.highest, self.highest_numbers, x, numbers, True), self.most)

    def _outermost(
        self, values: Tensor, numbers: Tensor, x: Tensor, more: Tensor, descending: bool
    ) -> tuple[Tensor, Tensor]:
        every = torch.cat([values, x])
        ordered, order = every.sort(dim=0, descending=descending, stable=True)
        return ordered[: self.most], torch.cat([numbers, more]).gather(0, order[: self.most])


def quantiles(levels: tuple[float, ...], count: int, extremes: Extremes, histogram: Histogram) -> Tensor:
    """Quantiles ``[Q,C]`` of ``count`` observations, interpolated between neighbours as ``torch.quantile`` does.

    Exact where both neighbours are among the extremes, so everywhere if ``count`` is at most twice their number; in
    between off by less than one bin of the histogram, so by less than 1/255 of the range (high - low).
    """
    position = torch.tensor(levels, dtype=torch.float64) * (count - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=count - 1)
    ranks, where = torch.cat([below, above]).unique(return_inverse=True)
    kept = len(extremes.lowest)
    low, high = extremes.lowest.double(), extremes.highest.double()
    between = histogram.at(ranks).maximum(low[-1]).minimum(high[-1])
    from_low = low[ranks.clamp(max=kept - 1)]
    from_high = high[(count - 1 - ranks).clamp(max=kept - 1)]
    values = torch.where((ranks >= count - kept)[:, None], from_high, between)
    values = torch.where((ranks < kept)[:, None], from_low, values)[where]
    start, end = values[: len(levels)], values[len(levels) :]
    return start + (end - start) * (position - below)[:, None]


@final
@dataclass(frozen=True)
class ClassSums:
    """Of each class seen: its number ``[K]`` (ascending), how many observations ``[K]``, and their sums ``[K,C]``."""

    classes: Tensor
    counts: Tensor
    sums: Tensor

    @classmethod
    def empty(cls, channels: int) -> ClassSums:
        none = torch.zeros(0, dtype=torch.int64)
        return cls(none, none, torch.zeros(0, channels, dtype=torch.float64))

    def add(self, x: Tensor, labels: Tensor) -> ClassSums:
        classes = torch.cat([self.classes, labels]).unique()
        counts = torch.zeros(len(classes), dtype=torch.int64)
        sums = torch.zeros(len(classes), x.shape[1], dtype=torch.float64)
        old, new = torch.searchsorted(classes, self.classes), torch.searchsorted(classes, labels)
        counts.index_add_(0, old, self.counts).index_add_(0, new, torch.ones_like(labels))
        sums.index_add_(0, old, self.sums).index_add_(0, new, x.double())
        return ClassSums(classes, counts, sums)

    @property
    def means(self) -> Tensor:
        return self.sums / self.counts[:, None]

    def explained(self, moments: Moments) -> Tensor:
        """``eta^2``, the share of the variance that lies between classes, ``[C]``; 0 for what does not vary."""
        between = (self.counts[:, None] * (self.means - moments.mean).square()).sum(0)
        total = moments.products.diagonal() if moments.products.ndim == 2 else moments.products
        return torch.where(total > 0, between / total.clamp(min=1e-300), 0.0).clamp(max=1)


def picks(seed: int, first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Which of the observations ``first, first + 1, ...`` enter a uniform sample of ``size``: slots, and rows of these.

    Vitter's algorithm R (1985): observation i takes slot i while there is room, then a random one of i + 1 slots, if
    that is among the ``size``. Its draw is keyed by (seed, i), so the batches do not matter.
    """
    numbers = first + torch.arange(count)
    drawn = torch.where(numbers < size, numbers, Rng(seed, numbers).integers() % (numbers + 1))
    taken = {slot: row for row, slot in enumerate(drawn.tolist()) if slot < size}  # the later one stays
    return torch.tensor(list(taken), dtype=torch.int64), torch.tensor(list(taken.values()), dtype=torch.int64)


def placed(sample: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """``sample`` with ``rows`` in ``slots``, longer if need be; itself where there are none."""
    if not len(slots):
        return sample
    more = max(0, int(slots.max()) + 1 - len(sample))
    grown = torch.cat([sample, sample.new_zeros(more, *sample.shape[1:])])
    grown[slots] = rows
    return grown
