"""Streaming statistics compared with plain torch on all observations, for every split into batches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.measuring import draw_sample, effective_rank, fill_slots
from featureviz.lab.statistics.streams import (
    BINS,
    ClassSums,
    Extremes,
    Histogram,
    Moments,
    quantiles,
)

SPREAD = torch.tensor([1.0, 100.0, 1e-3, 0.0, 1.0, 1e-30])
SHIFT = torch.tensor([0.0, 5.0, 100.0, 3.0, -1e4, 0.0])


def observations(count: int = 3000) -> Tensor:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0)) ** 3 * SPREAD + SHIFT
    x[:, 4] = x[:, 4].round()  # ties
    return x


def streamed(x: Tensor, batch: int, extremes: int = 16) -> tuple[Moments, Histogram, Extremes]:
    m, h, e = Moments.empty(6, joint=True), Histogram.empty(6), Extremes.empty(6, extremes)
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        m, h, e = m.add(part), h.add(part), e.add(part, start)
    return m, h, e


@pytest.mark.parametrize("batch", [1, 7, 800])
def test_streams_agree_with_plain_torch(batch: int) -> None:
    x = observations(800)
    m, h, e = streamed(x, batch)
    assert torch.allclose(m.mean, x.double().mean(0), rtol=1e-12)
    assert torch.allclose(m.covariance, x.double().T.cov(), rtol=1e-9, atol=1e-16)
    assert (m.covariance[3] == 0).all()
    assert (h.counts.sum(1) == len(x)).all()
    assert (h.width[:5] <= (2 * (h.high - h.low) / (BINS - 1)).clamp(min=1e-6)[:5]).all()
    for i in range(6):
        edges = h.start[i] + h.width[i] * torch.arange(BINS + 1)
        assert torch.equal(h.counts[i].long(), torch.from_numpy(np.histogram(x[:, i].double(), edges.numpy())[0]))
    ascending = x.sort(dim=0, stable=True)
    descending = x.sort(dim=0, stable=True, descending=True)
    assert torch.equal(e.lowest, ascending.values[:16])
    assert torch.equal(e.lowest_numbers, ascending.indices[:16])
    assert torch.equal(e.highest, descending.values[:16])
    assert torch.equal(e.highest_numbers, descending.indices[:16])


@pytest.mark.parametrize("batch", [1, 7, 800])
def test_notes_follow_the_extremes(batch: int) -> None:
    """The note on an observation is its number, twice; only those that enter are asked for."""
    x, extremes = observations(800), Extremes.empty(6, 16)
    low = high = torch.zeros(0, 6, 2, dtype=torch.int64)
    asked = 0
    for start in range(0, len(x), batch):
        part = x[start : start + batch]

        def find(rows: Tensor, columns: Tensor, start: int = start) -> Tensor:
            nonlocal asked
            asked += len(rows)
            return torch.stack([start + rows, columns], 1)

        may = [extremes.may_enter(part, slice(0, 6), largest) for largest in (False, True)]
        before = extremes
        extremes, *changes = before.merge(part, start)
        for enter, numbers in zip(may, (extremes.lowest_numbers, extremes.highest_numbers), strict=True):
            rank, column = (numbers >= start).nonzero(as_tuple=True)
            assert enter[numbers[rank, column] - start, column].all()
        low, high = changes[0].carry_some(low, find), changes[1].carry_some(high, find)
    for notes, numbers in ((low, extremes.lowest_numbers), (high, extremes.highest_numbers)):
        assert torch.equal(notes[..., 0], numbers)
        assert torch.equal(notes[..., 1], torch.arange(6).expand_as(numbers))
    assert asked <= 2 * 6 * 16 * -(-800 // batch)


def test_the_split_and_the_order_do_not_change_the_histogram() -> None:
    x = observations()
    one, other = streamed(x, 3000)[1], streamed(x.flip(0), 7)[1]
    assert torch.equal(one.counts, other.counts)
    assert torch.equal(one.start, other.start)


def test_quantiles_are_exact_in_the_tails_and_within_a_bin_between() -> None:
    x = observations()
    _, h, e = streamed(x, 100)
    found = quantiles(LEVELS, len(x), e, h)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    truth = torch.quantile(x.double(), levels, dim=0)
    exact = (levels * 2999 < 15) | (levels * 2999 > 2984)
    assert int(exact.sum()) == 8
    assert torch.allclose(found[exact], truth[exact], rtol=1e-12, atol=0)
    assert ((found - truth).abs() <= h.width).all()
    assert ((found - truth).abs() <= (h.high - h.low) / 255 + 1e-6).all()
    assert (found.diff(dim=0) >= 0).all()
    few = streamed(x[:32], 5)
    assert torch.allclose(quantiles(LEVELS, 32, few[2], few[1]), torch.quantile(x[:32].double(), levels, dim=0))


def test_adding_leaves_the_old_statistic_alone() -> None:
    x = observations(50)
    old = streamed(x[:30], 30)
    copies = [{k: v.clone() for k, v in vars(s).items() if isinstance(v, Tensor)} for s in old]
    old[0].add(x[30:]), old[1].add(x[30:]), old[2].add(x[30:], 30)
    for statistic, copy in zip(old, copies, strict=True):
        assert all(torch.equal(vars(statistic)[k], v) for k, v in copy.items())


def test_the_sample_is_uniform_and_independent_of_the_split() -> None:
    def sample(seed: int, batch: int, count: int = 40, size: int = 8) -> Tensor:
        kept = torch.zeros(0, dtype=torch.int64)
        for start in range(0, count, batch):
            slots, rows = draw_sample(seed, start, min(batch, count - start), size)
            kept = fill_slots(kept, slots, start + rows)
        return kept

    assert torch.equal(sample(5, 1), sample(5, 13))
    assert sorted(sample(5, 3, count=6).tolist()) == list(range(6))
    counts = torch.stack([sample(seed, 40) for seed in range(1000)]).flatten().bincount(minlength=40)
    assert counts.sum() == 8000
    assert (counts - 200).square().sum() / 200 < 72  # chi squared of 39 degrees of freedom: 72 is its 99.9th percentile


def test_class_sums_explain_what_anova_says() -> None:
    x, labels = observations(60), torch.arange(60) % 3 * 5
    x[:, 0] = labels  # nothing but its class
    sums, moments = ClassSums.empty(6), Moments.empty(6)
    for rows in torch.arange(60).split(7):
        sums, moments = sums.add(x[rows], labels[rows]), moments.add(x[rows])
    assert sums.classes.tolist() == [0, 5, 10]
    assert sums.counts.tolist() == [20, 20, 20]
    means = torch.stack([x[labels == k].double().mean(0) for k in (0, 5, 10)])
    assert torch.allclose(sums.means, means)
    eta = sums.explained(moments)
    truth = means.var(0, correction=0) / x.double().var(0, correction=0)
    assert torch.allclose(eta[[0, 1, 2, 4]], truth[[0, 1, 2, 4]])
    assert eta[0].item() == pytest.approx(1)
    assert eta[3] == 0


def test_effective_rank_counts_directions() -> None:
    assert float(effective_rank(torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)))) == pytest.approx(2)
    assert float(effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0])))) == pytest.approx(2)
