"""An objective whose weight depends on the step: abstract."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor

from featureviz import Activations, Objective, checks


class ScheduledObjective(Objective):
    """``weight(step) * goal``; outside an ascent, as on held-out views, the weight is that after the last step.

    ``steps`` is a number of steps that the schedule depends on.
    """

    def __init__(self, goal: Objective, steps: int) -> None:
        name = type(self).__name__
        checks.instance(f"{name}: goal", goal, Objective)
        super().__init__(goal.layers, n=goal.n, across_batch=goal.across_batch)
        self.goal, self.steps = goal, checks.whole(f"{name}: steps", steps, 1)

    @abstractmethod
    def weight(self, step: Tensor) -> Tensor:
        """The weight at this step, a tensor without dimensions."""

    LAST = 0.0  # the weight after the last step

    def forward(self, activations: Activations) -> Tensor:
        step, score = activations.rows.step, self.goal(activations)
        return score * (self.LAST if step is None else self.weight(step))

    def leaves(self) -> Iterator[Objective]:
        yield from self.goal.leaves()

    def select(self, images: Sequence[int]) -> Objective:
        return type(self)(self.goal.select(images), self.steps)
