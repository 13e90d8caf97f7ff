"""The best of several renders, where a score is not a number."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
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
