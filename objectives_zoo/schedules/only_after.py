"""A term that sets in later."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import zoo
from objectives_zoo.schedules.scheduled import ScheduledObjective


@zoo.entry("features.6:3 + only_after(2*features.3:4, 32)", beside="features.6:3")
@final
class OnlyAfter(ScheduledObjective):
    """A term that is 0 in the first ``steps`` steps, and itself from then on.

    ``[step >= steps] * goal``. Held-out views are seen after the last step, where the term is itself.

    Source: ``only_after(n)`` of Lucid's notebook on alpha. Weight 1: the goal has its own. Use it for a term that
    would lead the image astray before the unit is found. On tokens and vectors it means what its goal means there.

    >>> from featureviz import Channel
    >>> OnlyAfter(Channel("features.6", 3), 32)
    only_after(features.6:3, 32)
    """

    LAST = 1.0

    def weight(self, step: Tensor) -> Tensor:
        return (step >= self.steps).float()
