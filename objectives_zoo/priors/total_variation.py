"""The variation between neighbouring pixels."""

from __future__ import annotations

from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("features.6:3 - 0.001*total_variation(input)", beside="features.6:3")
@objective
def total_variation(a: Tensor) -> Tensor:
    """The sum of all differences between neighbouring pixels: a cost, for smooth areas with few edges.

    ``sum |a[y+1,x] - a[y,x]| + |a[y,x+1] - a[y,x]|`` over a view.

    Source: Mahendran & Vedaldi 2015, in Lucid's form. Weight 0.001 beside the mean of a channel of this network, whose
    slope is about 0.1 in a whole view; Lucid's notebook takes 0.25 beside the sums of its own network. Judge by the
    picture.

    It is meant for ``"input"``, and works on any map; tokens and vectors have no rows and columns.

    >>> total_variation("input")
    total_variation(input)
    """
    return a.diff(dim=-1).abs().flatten(1).sum(1) + a.diff(dim=-2).abs().flatten(1).sum(1)
