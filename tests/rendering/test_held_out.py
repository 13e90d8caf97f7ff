"""Scores on held-out views: of images of any number, in any memory, and never at the cost of the images."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.network.model import TappedModel
from featureviz.rendering.held_out import HeldOut, evaluate_made
from featureviz.transform import Jitter, Transform
from featureviz.transform.unseen import compress


def pictures(n: int = 3, **how: Any) -> Tensor:
    return torch.rand(n, 3, 24, 24, generator=torch.Generator().manual_seed(0), **how)


def limit_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """As a device with room for so many views; the list gets the numbers of views that were tried."""
    tried, forward = list[int](), TappedModel.forward

    def limited(self: TappedModel, x: Tensor, *args: Any) -> fv.Activations:
        tried.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, *args)

    monkeypatch.setattr(TappedModel, "forward", limited)
    return tried


@pytest.mark.parametrize(("draws", "most"), [(16, 40), (16, 20), (16, 3), (5, 1), (100, 30)])
def test_a_batch_that_does_not_fit_is_halved(
    tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch, draws: int, most: int
) -> None:
    goals = [fv.Channel("conv", 1), fv.Gate("se", 2), fv.GateValue("se", 3)] * 2
    whole = fv.evaluate(tiny, goals, pictures(6), draws=draws)
    tried = limit_memory(monkeypatch, most)
    parts = fv.evaluate(tiny, goals, pictures(6), draws=draws)
    assert max(tried) > most
    assert min(tried) <= most
    assert torch.allclose(parts.scores, whole.scores, atol=1e-6)
    for mine, theirs in zip(parts.logits + parts.gates, whole.logits + whole.gates, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[spec], theirs[spec], atol=1e-6) for spec in mine)


def test_a_single_view_that_does_not_fit_is_an_error(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        fv.evaluate(tiny, "conv:1", pictures())


def test_many_draws_go_through_the_network_in_parts(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = limit_memory(monkeypatch, 64)
    many = fv.evaluate(tiny, "gate:se:1", pictures(2), draws=150)
    assert max(tried) <= 64
    assert many.scores.shape == (150, 2)
    assert torch.equal(many.logits[1]["gate:se:1"], many.scores[:, 1])
    assert torch.allclose(many.scores[:7], fv.evaluate(tiny, "gate:se:1", pictures(2), draws=7).scores, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scores_are_float32_whatever_the_network_is(net: nn.Module, dtype: torch.dtype) -> None:
    model = fv.wrap(copy.deepcopy(net).to(dtype), mean=0.5, std=0.25, size=24)
    held_out = fv.evaluate(model, "[conv:1, gate:se:2]", pictures(2))
    assert held_out.scores.dtype == held_out.gates[1]["gate:se:2"].dtype == torch.float32


def test_unseen_views_are_scored_beside_the_held_out_ones(tiny: fv.TappedModel) -> None:
    x = pictures(2)
    held_out = fv.evaluate(tiny, "[conv:1, gate:se:2]", x)
    assert {name: scores.shape for name, scores in held_out.unseen.items()} == {
        "jpeg": (2,), "blur": (2,), "crop": (2,)
    }  # fmt: skip
    plain = tiny(compress(x), ["conv"])["conv"][0, 1].mean()
    assert torch.allclose(held_out.unseen["jpeg"][0], plain, atol=1e-5)
    alone = fv.evaluate(tiny, "gate:se:2", x[1:], image_ids=[1]).unseen
    assert all(torch.allclose(alone[name][0], scores[1], atol=1e-5) for name, scores in held_out.unseen.items())
    assert not torch.allclose(held_out.unseen["blur"], held_out.unseen["jpeg"], atol=1e-4)
    assert HeldOut.empty(2).unseen == {}


def test_one_image_needs_no_batch_dimension(tiny: fv.TappedModel) -> None:
    x = pictures(1)
    assert torch.equal(fv.evaluate(tiny, "conv:1", x[0]).scores, fv.evaluate(tiny, "conv:1", x).scores)
    half = fv.evaluate(tiny, "conv:1", x.double()).scores
    assert torch.equal(half, fv.evaluate(tiny, "conv:1", x).scores)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "images=None"), ("a.png", "cannot read a.png"), (np.zeros((1, 3, 8, 8), int), "images of int64"),
        ([torch.zeros(3, 8, 8)], "images="), (torch.zeros(8, 8), r"images of shape \[8, 8\]"),
        (torch.zeros(2, 5, 8, 8), r"expected \[3,H,W\]"), (torch.zeros(8, 8, 3), r"expected \[3,H,W\]"),
        (torch.zeros(0, 3, 8, 8), r"images of shape \[0"), (torch.zeros(1, 3, 0, 8), r"images of shape \[1"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int16), "expected bytes"), (255 * pictures(), "divide bytes by 255"),
        (pictures() - 0.5, "finite"), (pictures() * torch.nan, "finite"),
        (pictures().to("meta"), "no plain real numbers"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_judged_are_explained(tiny: fv.TappedModel, images: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fv.evaluate(tiny, "conv:1", images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws=0"), ({"draws": 1.5}, "draws=1.5"), ({"seed": None}, "seed=None"),
        ({"image_ids": [1]}, "for 3 images"), ({"image_ids": [1, 2, 0.5]}, r"image_ids\[2\]=0.5"),
        ({"image_ids": 7}, "image_ids=7"), ({"transforms": Jitter(8)}, "expected a list of transforms"),
        ({"transforms": [Jitter]}, r"make one: Jitter\(...\)"), ({"transforms": 3}, "transforms=3"),
        ({"transforms": ["jitter"]}, "'jitter' was given for a transform"),
    ],
)  # fmt: skip
def test_bad_options_are_named(tiny: fv.TappedModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fv.evaluate(tiny, "conv:1", pictures(), **options)


def test_a_transform_that_makes_nan_is_named(tiny: fv.TappedModel) -> None:
    class Broken(Transform):
        def draw(self, rng: fv.Rng, size: tuple[int, int]) -> tuple[Tensor, ...]:
            return ()

        def transform(self, images: Tensor, draw: tuple[Tensor, ...]) -> Tensor:
            return images / 0

    with pytest.raises(InvalidInput, match=r"Broken\.transform gave values that are not finite"):
        fv.evaluate(tiny, "conv:1", pictures(), transforms=[Jitter(2), Broken(), Jitter(2)])


def test_a_goal_of_other_images_is_explained(tiny: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match="describes 2 images; 3 were given"):
        fv.evaluate(tiny, "[conv:1, conv:2]", pictures())


# ----------------------------------------------------------------------------------------------- images are not lost
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("own"), torch.OutOfMemoryError("full"), None])
def test_images_outlive_their_scores(tiny: fv.TappedModel, error: BaseException | None) -> None:
    @fv.objective
    def stops(a: Tensor) -> Tensor:
        if error is not None:
            raise error
        return a.mean((1, 2, 3))

    if error is None or isinstance(error, KeyboardInterrupt):
        held_out, stop = evaluate_made(tiny, stops("conv"), pictures(), seed=3)
    else:
        with pytest.warns(RuntimeWarning, match="could not be scored on held-out views: .*(own|full)"):
            held_out, stop = evaluate_made(tiny, stops("conv"), pictures())
    assert stop is (error if isinstance(error, KeyboardInterrupt) else None)
    if error is None:
        assert torch.equal(held_out.scores, fv.evaluate(tiny, stops("conv"), pictures(), seed=3).scores)
    else:
        assert held_out.scores.shape == HeldOut.empty(3).scores.shape == (0, 3)
        assert held_out.gates == ({}, {}, {})
