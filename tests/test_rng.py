from collections.abc import Callable

import pytest
import torch

from featureviz import Rng
from featureviz.errors import InvalidInput


def test_a_row_is_keyed_by_seed_image_view_and_step_alone() -> None:
    batch, alone = Rng(3, 6, views=4), Rng(3, torch.tensor([5]), views=4)
    for _ in range(3):
        assert torch.equal(batch.uniform()[20:], alone.uniform())
        assert torch.equal(batch.normal((3, 2))[20:], alone.normal((3, 2)))
        assert torch.equal(batch.integers()[20:], alone.integers())
        batch.advance()
        alone.advance()
    assert torch.equal(Rng(3, 6, views=2).uniform()[::2], Rng(3, 6, views=4).uniform()[::4])


def test_every_key_changes_the_numbers() -> None:
    base = Rng(3, 4, views=2)
    first = base.uniform()
    assert len(first.unique()) == 8
    assert not torch.equal(first, Rng(4, 4, views=2).uniform())
    assert not torch.equal(first, base.uniform())
    base.advance()
    assert not torch.equal(first, base.uniform())
    base.advance(-1)
    assert torch.equal(first, base.uniform())
    assert torch.equal(Rng(-1, 2).uniform(), Rng(-1, 2).uniform())


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    rng = Rng(0, 2000, views=2)
    u = torch.stack([rng.uniform() for _ in range(40)])  # [40, 4000]: 40 draws, two and a half blocks
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 20, 0, 1)
    expected = u.numel() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-square, 19 degrees of freedom: p < 0.001
    correlation = torch.corrcoef(u).triu(1)
    assert correlation.abs().max() < 5 / 4000**0.5
    views = u.view(40, 2000, 2)
    assert abs(float(torch.corrcoef(views.reshape(-1, 2).T)[0, 1])) < 5 / 80_000**0.5
    wide = rng.uniform(-3, 5, (7, 9))
    assert wide.shape == (4000, 7, 9)
    assert wide.mean().item() == pytest.approx(1, abs=0.03)


def test_normals_have_the_right_moments() -> None:
    n = Rng(1, 300).normal((3, 21, 11))
    assert n.shape == (300, 3, 21, 11)
    assert n.mean().abs() < 0.01
    assert n.std().item() == pytest.approx(1, abs=0.01)
    assert (n**3).mean().abs() < 0.03
    assert (n**4).mean().item() == pytest.approx(3, abs=0.06)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda rng: rng.uniform(-torch.inf, 1), "low=-inf"),
        (lambda rng: rng.uniform(0, torch.nan), "high=nan"),
        (lambda rng: rng.uniform(shape=3), "shape=3"),
        (lambda rng: rng.normal((0.5,)), r"shape\[0\]=0.5"),
        (lambda rng: rng.advance(0.5), "by=0.5"),
        (lambda rng: Rng(0, torch.rand(3)), "expected whole numbers"),
        (lambda rng: Rng(0, torch.ones(3, dtype=torch.bool)), "expected whole numbers"),
        (lambda rng: Rng(0, [1, 2.5]), r"images\[1\]=2.5"),
        (lambda rng: Rng(0, 3, device="nonsense"), "device='nonsense' cannot be used"),
        (lambda rng: Rng(0, 3, device=0.5), "device=0.5 cannot be used"),
    ],
)
def test_bad_numbers_are_named(draw: Callable[[Rng], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        draw(Rng(0, 4))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    rng = Rng(0, 4)
    rng.uniform(), rng.normal((3,)), rng.integers()
    assert torch.equal(before, torch.get_rng_state())
