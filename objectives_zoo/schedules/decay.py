"""A term that fades away."""

from __future__ import annotations

from typing import final

from torch import Tensor

from featureviz import zoo
from objectives_zoo.schedules.scheduled import ScheduledObjective


@zoo.entry("features.6:3 - decay(0.002*total_variation(input), 64)", beside="features.6:3")
@final
class Decay(ScheduledObjective):
    """A term whose weight falls linearly from 1 to 0 in the first ``steps`` steps.

    ``max(0, 1 - step / steps) * goal``. Held-out views are seen after the last step, where the term is 0.

    Source: ``decay(n)`` of Lucid's notebook on alpha. Use it for a prior that shapes the beginning and must not blur
    the end, such as half of all steps. On tokens and vectors it means what its goal means there.

    >>> from featureviz import Channel
    >>> Decay(Channel("features.6", 3), 64)
    decay(features.6:3, 64)
    """

    def weight(self, step: Tensor) -> Tensor:
        return (1 - step / self.steps).clamp(min=0)
