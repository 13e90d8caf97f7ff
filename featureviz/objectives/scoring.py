"""The scores of an objective, checked: one finite-precision real number for each view."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.network.activations import Activations
from featureviz.objectives.algebra import Objective


def score_views(objective: Objective, activations: Activations) -> Tensor:
    """``objective(activations)``, ``[M]`` float32.

    Raises:
        InvalidInput: it gives something else than a real number for each view.
    """
    score: Any = objective(activations)
    views = len(activations.rows)
    if not isinstance(score, Tensor) or score.is_complex() or score.shape != (views,):
        kind = "complex scores" if isinstance(score, Tensor) and score.is_complex() else "scores"
        given = f"{kind} of shape {list(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
        raise InvalidInput(
            f"{objective.spec} gave {given} for {views} views; expected [{views}], one a view, as a tensor of"
            " real numbers: reduce over everything but the batch"
        )
    return score.float()
