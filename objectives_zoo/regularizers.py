"""Priors on the image itself: use them on the layer ``"input"``, with a negative weight.

>>> from featureviz import Channel
>>> Channel("features.6", 3) - 0.1 * total_variation("input")
features.6:3 - 0.1*total_variation(input)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from featureviz import objective


@objective
def total_variation(a: Tensor) -> Tensor:
    """``sum |a[y+1,x] - a[y,x]| + |a[y,x+1] - a[y,x]|`` over a view (Mahendran & Vedaldi 2015; Lucid's form)."""
    return a.diff(dim=-1).abs().flatten(1).sum(1) + a.diff(dim=-2).abs().flatten(1).sum(1)


@objective
def l1(a: Tensor, centre: float = 0.5) -> Tensor:
    """``sum |a - centre|``: what the rest of the objective does not need stays grey."""
    return (a - centre).abs().flatten(1).sum(1)


@objective
def l2(a: Tensor, centre: float = 0.5, epsilon: float = 1e-6) -> Tensor:
    """``sqrt(epsilon + sum (a - centre)^2)``."""
    return (epsilon + (a - centre).square().flatten(1).sum(1)).sqrt()


@objective
def boundary_complexity(a: Tensor, width: int = 20, centre: float = 0.5) -> Tensor:
    """Detail and contrast within ``width`` pixels of the edge (Lucid's ``penalize_boundary_complexity``, not negated).

    ``mean((blur(a) - a)^2 + 0.8 (a - centre)^2)`` over the margin, blur a 5x5 mean.
    """
    blurred = F.avg_pool2d(F.pad(a, (2, 2, 2, 2), mode="replicate"), 5, 1)
    cost = (blurred - a).square() + 0.8 * (a - centre).square()
    inside = cost[..., width:-width, width:-width]
    margin = cost.flatten(1).sum(1) - inside.flatten(1).sum(1)
    return margin / max(1, cost[0].numel() - inside[0].numel())
