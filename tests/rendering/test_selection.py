"""The best of several renders: where a score is not a number, on another device, and cut short."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.rendering import selection


@pytest.mark.parametrize("bad", [0, 1])
def test_a_render_that_scores_nan_never_wins(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    how: dict[str, Any] = {"steps": 2, "size": 24, "progress": False}
    tries = [fv.render(tiny, "conv:2", seed=4 + k * selection.FAR, **how) for k in range(2)]

    def scored(model: fv.TappedModel, goal: fv.Objective, images: Tensor, **options: Any) -> Any:
        held_out = fv.evaluate(model, goal, images, **options)
        broken = torch.equal(images, tries[bad].images)
        return replace(held_out, scores=held_out.scores * torch.nan) if broken else held_out

    monkeypatch.setattr(selection, "evaluate", scored)
    best = fv.best_of(2, tiny, "conv:2", seed=4, **how)
    assert torch.equal(best.images, tries[1 - bad].images)


HOW: dict[str, Any] = {"steps": 2, "size": 24, "progress": False}


def test_the_model_is_copied_to_its_device_once_and_judged_there(
    tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in the place of one on another device."""
    there, asked, judged = copy.deepcopy(tiny), list[object](), list[fv.TappedModel]()
    monkeypatch.setattr(selection, "copy_to_devices", lambda model, device: [asked.append(device) or there])
    monkeypatch.setattr(
        selection, "evaluate", lambda model, *a, **k: judged.append(model) or fv.evaluate(model, *a, **k)
    )
    best = fv.best_of(3, tiny, "conv:2", device="cpu", **HOW)
    assert asked == ["cpu"]
    assert all(model is there for model in judged)
    assert len(judged) == 4
    assert torch.allclose(best.images, fv.best_of(3, tiny, "conv:2", **HOW).images)


def test_the_best_before_an_error_is_judged_as_what_it_is(
    tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two renders end, the third is not finite: the scores belong to the images that were chosen among the two."""
    two, render = fv.best_of(2, tiny, "[conv:2, conv:5]", seed=4, **HOW), selection.render

    def third_fails(*args: Any, seed: int, **options: Any) -> fv.Rendering:
        if seed == 4 + 2 * selection.FAR:
            raise fv.NonFinite("the score is nan", 1, "conv:2")
        return render(*args, seed=seed, **options)

    monkeypatch.setattr(selection, "render", third_fails)
    with pytest.raises(fv.NonFinite) as caught:
        fv.best_of(5, tiny, "[conv:2, conv:5]", seed=4, **HOW)
    assert torch.equal(caught.value.rendering.images, two.images)
    assert torch.equal(caught.value.rendering.held_out.scores, two.held_out.scores)


@pytest.mark.parametrize("at", ["render", "evaluate"])
def test_control_c_between_two_renders_keeps_the_best(
    tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    calls, original = list[int](), getattr(selection, at)

    def second_is_stopped(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(selection, at, second_is_stopped)
    best = fv.best_of(3, tiny, "conv:2", **HOW)
    assert best.interrupted
    assert torch.equal(best.images, fv.render(tiny, "conv:2", **HOW).images)
    assert best.held_out.scores.isfinite().all()


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (1.0, 0), ("2", 0), (None, 0), (2, 0.5), (2, torch.nan), (2, 2**63)])
def test_numbers_of_renders_and_seeds_are_checked(tiny: fv.TappedModel, n: Any, seed: Any) -> None:
    with pytest.raises(InvalidInput, match=r"n=|seed="):
        fv.best_of(n, tiny, "conv:2", seed=seed, **HOW)
