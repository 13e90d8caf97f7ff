"""An objective as a differentiable function of images, which the methods of attribution take the gradient of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from featureviz.checks import SEEDS, VIEWS, whole
from featureviz.errors import InvalidInput
from featureviz.network.activations import Rows
from featureviz.network.copies.redirect import is_redirected
from featureviz.network.in_force import check_batch, interventions_across_batch
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import Goal, as_objective, prepare
from featureviz.rng import Rng
from featureviz.transform import Pipeline, robust


@final
class ScoreFunction:
    """``[N,3,h,w]`` in [0,1] to the scores ``[N]`` of an objective; with ``views`` > 1, the mean over random views.

    ``running`` is a private copy of the network, which the methods may hook.
    """

    def __init__(self, model: TappedModel, objective: Goal, views: int = 1, seed: int = 0) -> None:
        self.views, self.seed = whole("views", views, 1, VIEWS), whole("seed", seed, *SEEDS)
        self.model = tapped(model)
        self.objective: Objective = prepare(as_objective(objective), model)
        self.running = model.isolated()

    def for_image(self, image: int) -> ScoreFunction:
        """The function whose every row has the objective of image number ``image``."""
        return ScoreFunction(self.model, self.objective.select([image]), self.views, self.seed)

    def check_alone(self) -> None:
        """Raise ``InvalidInput`` if an image's score depends on other images, so that it cannot be scored alone."""
        if self.objective.across_batch or interventions_across_batch(self.model.key):
            raise InvalidInput(
                "an objective or an intervention looks across the batch; integrated gradients are of one image alone"
            )

    def __call__(self, x: Tensor) -> Tensor:
        check_batch(self.model.key, len(x))
        rows, size = Rows.make(len(x), self.views, x.device), (x.shape[-2], x.shape[-1])
        if self.views > 1:
            x = Pipeline(robust()).to(x.device)(x, Rng(self.seed, len(x), self.views, x.device), size)
        taps = self.model.taps(self.objective.layers, size)
        values = self.running.read(x, taps, redirect=is_redirected(self.model.key))
        score = self.objective(self.model.collect(values, taps, rows))
        if x.requires_grad and not score.requires_grad:
            raise InvalidInput(f"{self.objective} has no gradient for the image; expected a score that depends on it")
        return score.view(-1, self.views).mean(1)

    def not_reached(self, site: str) -> InvalidInput:
        """The error for a block that does not run before what the objective reads."""
        return InvalidInput(
            f"block {site!r} runs after all that {self.objective} reads, so the score does not depend on it; give an"
            " earlier block, or a later objective, such as a logit"
        )


@contextmanager
def enable_gradients() -> Iterator[None]:
    """Record gradients inside the ``with`` block, even if the caller has disabled them."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
