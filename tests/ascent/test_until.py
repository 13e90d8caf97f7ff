"""Transforms that end before the ascent does."""

import pytest
import torch

import featureviz as fv
from featureviz.transform import Jitter, Noise, Transform, Until
from tests.ascent.ascents import ascent_of

STILL = fv.Adam(1e-12)  # images stay as they are, so scores differ by their views only


def scores(tiny: fv.TappedModel, stages: list[Transform], *, steps: int = 8) -> torch.Tensor:
    ascent = ascent_of(tiny, "conv:[1, 2]", transforms=stages, optimizer=STILL, steps=steps)
    ascent.run(steps)
    return ascent.scores


@pytest.mark.parametrize(("share", "steps_with"), [(0, 0), (0.5, 4), (0.51, 5), (0.75, 6), (1, 8)])
def test_views_are_noisy_until_their_share_and_then_exactly_as_without(
    tiny: fv.TappedModel, share: float, steps_with: int
) -> None:
    scheduled = scores(tiny, [Jitter(4), Until(Noise(0.2), share)])
    noisy, plain = scores(tiny, [Jitter(4), Noise(0.2)]), scores(tiny, [Jitter(4)])
    assert torch.equal(scheduled[:steps_with], noisy[:steps_with])
    assert torch.equal(scheduled[steps_with:], plain[steps_with:])
    assert not torch.equal(noisy, plain)


def test_a_transform_that_has_ended_is_not_drawn(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = list[int](), Noise.draw

    def counted(self: Noise, rng: fv.Rng, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        drawn.append(int(rng.step))
        return draw(self, rng, size)

    monkeypatch.setattr(Noise, "draw", counted)
    ascent = ascent_of(tiny, "conv:1", transforms=[Until(Noise(0.2), 0.5)], steps=6)
    drawn.clear()  # of the check at the start
    ascent.run(6)
    assert drawn == [0, 1, 2]


def test_image_i_does_not_depend_on_its_batch(tiny: fv.TappedModel) -> None:
    options = {"steps": 6, "size": 24, "progress": False, "transforms": [Jitter(4), Until(Noise(0.2), 0.5)]}
    batch = fv.render(tiny, "conv:[1, 2, 3]", **options)
    alone = fv.render(tiny, "conv:3", image_ids=[2], **options)
    assert (batch.images[2] - alone.images[0]).abs().max() < 1e-4
    assert batch.recipe["transforms"] == ["Jitter(4)", "Until(Noise(0.2), 0.5)"]
