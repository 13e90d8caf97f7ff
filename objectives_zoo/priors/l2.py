"""The distance from grey, by squared differences."""

from __future__ import annotations

from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("features.6:3 - 0.06*l2(input)", beside="features.6:3")
@objective
def l2(a: Tensor, centre: float = 0.5, epsilon: float = 1e-6) -> Tensor:
    """The Euclidean distance from grey: a cost, for pictures of less contrast.

    ``sqrt(epsilon + sum (a - centre)^2)`` over a view.

    Source: Lucid's ``L2``. Weight 0.06 beside the mean of a channel of this network: it takes back part of the contrast
    and not all of it.

    It is meant for ``"input"``; on other layers, whether of maps, tokens or vectors, take ``centre=0``.

    >>> l2("input")
    l2(input, 0.5, 1e-06)
    """
    return (epsilon + (a - centre).square().flatten(1).sum(1)).sqrt()
