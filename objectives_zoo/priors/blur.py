"""A pull towards the blurred picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("features.6:3 - 0.02*blur_each_step(input)", beside="features.6:3")
@objective
def blur_each_step(a: Tensor) -> Tensor:
    """The distance from the blurred picture: a cost, which blurs a little at each step.

    ``0.5 sum (a - stop_gradient(blur(a)))^2`` over a view; blur is 3 x 3 with weight 1 in the middle and 0.5 around it,
    scaled to sum to 1, also at the edge. Its gradient is ``a - blur(a)``, so a step of size 1 would blur once.

    Source: Lucid's ``blur_input_each_step``, which is negated. Weight 0.02 beside the mean of a channel of this
    network; Lucid's notebook takes 1.

    It is meant for ``"input"`` and needs rows and columns, which tokens and vectors do not have.

    >>> blur_each_step("input")
    blur_each_step(input)
    """
    with torch.no_grad():
        ones = torch.ones_like(a[:, :1])
        blurred = (9 * _mean(a) + a) / (9 * _mean(ones) + ones)  # weights 2 and 1: twice those above
    return 0.5 * (a - blurred).square().flatten(1).sum(1)


def _mean(a: Tensor) -> Tensor:
    return F.avg_pool2d(a, 3, 1, 1)
