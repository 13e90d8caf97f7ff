"""The distance from grey, by absolute differences."""

from __future__ import annotations

from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("features.6:3 - 0.0006*l1(input)", beside="features.6:3")
@objective
def l1(a: Tensor, centre: float = 0.5) -> Tensor:
    """The sum of all distances from grey: a cost, so that what the rest does not need stays grey.

    ``sum |a - centre|`` over a view.

    Source: Lucid's ``L1``. Weight 0.0006 beside the mean of a channel of this network; Lucid's notebook takes 0.05.

    It is meant for ``"input"``; on other layers take ``centre=0``: it makes activations of maps, tokens and
    vectors sparse.

    >>> l1("input")
    l1(input, 0.5)
    """
    return (a - centre).abs().flatten(1).sum(1)
