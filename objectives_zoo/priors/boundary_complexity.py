"""What happens at the edge of the picture."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("features.6:3 - 20*boundary_complexity(input)", beside="features.6:3")
@objective
def boundary_complexity(a: Tensor, width: int = 20, centre: float = 0.5) -> Tensor:
    """Detail and contrast within ``width`` pixels of the edge: a cost, so that icons can lie side by side.

    ``mean ((blur(a) - a)^2 + 0.8 (a - centre)^2)`` over the margin, blur a mean of 5 x 5 pixels.

    Source: Lucid's ``penalize_boundary_complexity``, which sums instead, and is negated. Weight 20 beside the mean of a
    channel of this network.

    It is meant for ``"input"`` and needs rows and columns, which tokens and vectors do not have.

    >>> boundary_complexity("input", width=8)
    boundary_complexity(input, 8, 0.5)
    """
    blurred = F.avg_pool2d(F.pad(a, (2, 2, 2, 2), mode="replicate"), 5, 1)
    cost = (blurred - a).square() + 0.8 * (a - centre).square()
    inside = cost[..., width:-width, width:-width]
    margin = cost.flatten(1).sum(1) - inside.flatten(1).sum(1)
    return margin / max(1, cost[0].numel() - inside[0].numel())
