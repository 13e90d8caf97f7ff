"""Gates seen on a stream of images: what is accumulated of each block, and what it amounts to in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.errors import ModelError
from featureviz.lab.statistics.pictures import Batch
from featureviz.lab.statistics.streams import ClassSums, Extremes, Histogram, Moments, picks, placed, quantiles
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite

OPEN, SHUT = 0.99, 0.01  # a gate is open at a value of at least OPEN, and shut at a value of at most SHUT
RESOLUTION = 2.0**-23  # float32: a standard deviation below this share of the mean is rounding


@final
@dataclass(frozen=True)
class Distribution:
    """Of C variables: joint moments, histogram, extremes, and the rows of a uniform sample ``[R,C]``."""

    moments: Moments
    histogram: Histogram
    extremes: Extremes
    sample: Tensor

    @classmethod
    def empty(cls, channels: int, extremes: int) -> Distribution:
        moments, histogram = Moments.empty(channels, joint=True), Histogram.empty(channels)
        return cls(moments, histogram, Extremes.empty(channels, extremes), torch.zeros(0, channels))

    def add(self, x: Tensor, slots: Tensor, rows: Tensor) -> Distribution:
        return Distribution(
            self.moments.add(x),
            self.histogram.add(x),
            self.extremes.add(x, self.moments.count),
            placed(self.sample, slots, x[rows]),
        )

    def quantiles(self, levels: tuple[float, ...]) -> Tensor:
        return quantiles(levels, self.moments.count, self.extremes, self.histogram)


@final
@dataclass(frozen=True)
class Block:
    """One block so far: its logits, squeezes and gate values, and how many gates were near 0 and near 1, ``[2,C]``."""

    logits: Distribution
    squeezes: Distribution
    values: Moments
    classes: ClassSums
    near: Tensor

    @classmethod
    def empty(cls, channels: int, extremes: int) -> Block:
        logits, squeezes = (Distribution.empty(channels, extremes) for _ in range(2))
        near = torch.zeros(2, channels, dtype=torch.int64)
        return cls(logits, squeezes, Moments.empty(channels), ClassSums.empty(channels), near)

    def add(self, row: Row, labels: Tensor | None, slots: Tensor, rows: Tensor) -> Block:
        near = torch.stack([(row.values <= SHUT).sum(0), (row.values >= OPEN).sum(0)])
        return Block(
            self.logits.add(row.logits, slots, rows),
            self.squeezes.add(row.squeezes, slots, rows),
            self.values.add(row.values),
            self.classes if labels is None else self.classes.add(row.values, labels),
            self.near + near,
        )

    def parts(self, levels: tuple[float, ...]) -> dict[str, Tensor]:
        """What ``SiteStatistics`` holds."""
        logits, squeezes, values = self.logits.moments, self.squeezes.moments, self.values
        histogram, extremes = self.logits.histogram, self.logits.extremes
        closed, opened = self.near / values.count
        parts = {
            "quantiles": self.logits.quantiles(levels),
            "logit_mean": logits.mean,
            "logit_sd": logits.sd,
            "value_mean": values.mean,
            "value_sd": values.sd,
            "closed": closed,
            "opened": opened,
            "static_share": static_share(values),
            "effective_rank": effective_rank(correlation(logits.covariance, logits.mean)),
            "squeeze_quantiles": self.squeezes.quantiles(levels),
            "squeeze_mean": squeezes.mean,
            "squeeze_sd": squeezes.sd,
            "logit_covariance": logits.covariance,
            "squeeze_covariance": squeezes.covariance,
            "logit_sample": self.logits.sample,
            "squeeze_sample": self.squeezes.sample,
            "histogram_counts": histogram.counts,
            "histogram_start": histogram.start,
            "histogram_width": histogram.width,
            "lowest": extremes.lowest,
            "lowest_images": extremes.lowest_numbers,
            "highest": extremes.highest,
            "highest_images": extremes.highest_numbers,
        }
        if len(self.classes.classes):
            parts |= {"class_means": self.classes.means, "eta_squared": self.classes.explained(values)}
        exact = ("histogram_start", "histogram_width")  # a bin's edges are exact in float64 only
        full = {k: v.float() if v.is_floating_point() and k not in exact else v for k, v in parts.items()}
        return {k: v.clone() for k, v in full.items()}  # views would be saved with all that they are views of


@final
@dataclass(frozen=True)
class Row:
    """What a batch did to one block: logits, squeezes and gate values, each ``[B,C]``, on the host."""

    logits: Tensor
    squeezes: Tensor
    values: Tensor


@final
@dataclass(frozen=True)
class Seen:
    """Every block after ``count`` images, and the numbers of the images in the sample."""

    blocks: Mapping[str, Block]
    images: Tensor
    count: int

    @classmethod
    def nothing(cls, sites: Mapping[str, GateSite], extremes: int) -> Seen:
        blocks = {name: Block.empty(site.channels, extremes) for name, site in sites.items()}
        return cls(blocks, torch.zeros(0, dtype=torch.int64), 0)

    def add(self, model: TappedModel, batch: Batch, sample: int, seed: int) -> Seen:
        """With one more batch; all blocks or, where an error or Ctrl-C comes in between, none."""
        rows = look(model, batch, self.count)
        slots, picked = picks(seed, self.count, len(batch.images), sample)
        blocks = {name: block.add(rows[name], batch.labels, slots, picked) for name, block in self.blocks.items()}
        return Seen(blocks, placed(self.images, slots, self.count + picked), self.count + len(batch.images))


def look(model: TappedModel, batch: Batch, first: int) -> dict[str, Row]:
    """One forward, up to the last gate."""
    sites = model.gates.channelwise
    taps = {
        f"{what} {name}": tap
        for name, s in sites.items()
        for what, tap in {"z": s.logits, "g": s.value, "x": s.x}.items()
    }
    with torch.no_grad():
        taken = model.isolated().read(batch.images.to(model.device), taps)
        rows: dict[str, Row] = {}
        for name, site in sites.items():
            squeezes = site.squeezed(taken.pop(f"x {name}").float())
            three = (taken.pop(f"z {name}").float(), squeezes, taken.pop(f"g {name}").float())
            for tensor, what in zip(three, ("logits", "squeezes", "values"), strict=True):
                _check(tensor, f"the {what} of block {name!r}", batch, first)
            rows[name] = Row(*(tensor.cpu() for tensor in three))
    return rows


def _check(tensor: Tensor, what: str, batch: Batch, first: int) -> None:
    bad = (~tensor.isfinite().all(1)).nonzero()
    if len(bad):
        row = int(bad[0])
        name = f" ({batch.names[row]})" if batch.names else ""
        raise ModelError(
            f"{what} are not finite on image {first + row}{name}; leave that image out, or look for NaN in the weights"
            " and for overflow in half precision"
        )


def static_share(values: Moments) -> Tensor:
    """``1 - E_c[var_n g_c] / var(g)``: the share of the variance of all values that the gates' means make up.

    1 where gates do not depend on the image at all.
    """
    within = values.products.sum() / (values.count * len(values.mean))
    between = values.mean.var(correction=0)
    return between / (between + within) if float(between + within) > 0 else torch.ones(())


def correlation(covariance: Tensor, mean: Tensor) -> Tensor:
    """``[C,C]`` of a covariance; 0, on the diagonal also, for what varies by no more than float32's rounding."""
    sd = covariance.diagonal().sqrt()
    moves = sd > RESOLUTION * mean.abs()
    scale = torch.where(moves, 1 / sd.clamp(min=1e-300 if sd.dtype == torch.float64 else 1e-37), 0.0)
    return (covariance * scale[:, None] * scale).clamp(-1, 1)


def effective_rank(matrix: Tensor) -> Tensor:
    """``exp(-sum p log p)`` of the normalised eigenvalues p (Roy & Vetterli 2007): from 1 to C; 0 for a zero matrix.

    >>> round(float(effective_rank(torch.eye(5))), 4), round(float(effective_rank(torch.ones(5, 5))), 4)
    (5.0, 1.0)
    """
    eigenvalues = torch.linalg.eigvalsh(matrix).clamp(min=0)
    total = eigenvalues.sum()
    if float(total) == 0:
        return torch.zeros(())
    return torch.special.entr(eigenvalues / total).sum().exp()
