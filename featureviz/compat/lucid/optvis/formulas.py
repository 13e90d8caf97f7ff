"""The formulas of Lucid's objectives, on tensors ``[M,C,H,W]`` and for each row alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON, FLOOR = 1e-4, 0.1  # of the cosine


def dot_cossim(a: Tensor, v: Tensor, power: float) -> Tensor:
    """``(a.v) max(0.1, cos(a, v))^power`` over axis 1."""
    dot = (a * v).sum(1)
    if not power:
        return dot
    cosine = dot / ((EPSILON + a.norm(dim=1)) * (EPSILON + v.norm(dim=1)))
    return dot * cosine.clamp(min=FLOOR) ** power


def centre_crop(a: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of this size around the centre."""
    (height, width), (h, w) = a.shape[-2:], size
    top, left = (height - h) // 2, (width - w) // 2
    return a[..., top : top + h, left : left + w]


def blur(x: Tensor, width: int) -> Tensor:
    """A mean with weight 1 inside and 1/2 at the edge of a square; less of it at the edge of the image."""
    kernel = torch.full((width, width), 0.5, device=x.device)
    kernel[1:-1, 1:-1] = 1.0
    weights = kernel.expand(x.shape[1], 1, -1, -1)

    def add_up(t: Tensor) -> Tensor:
        return F.conv2d(t, weights, padding=width // 2, groups=x.shape[1])

    return add_up(x) / add_up(torch.ones_like(x))


def total_variation(x: Tensor) -> Tensor:
    """The sum of the absolute differences of neighbours."""
    return x.diff(dim=-1).abs().flatten(1).sum(1) + x.diff(dim=-2).abs().flatten(1).sum(1)


def l1(x: Tensor, constant: float) -> Tensor:
    """``sum |x - constant|``."""
    return (x - constant).abs().flatten(1).sum(1)


def l2(x: Tensor, constant: float, epsilon: float) -> Tensor:
    """``sqrt(epsilon + sum (x - constant)^2)``."""
    return (epsilon + (x - constant).square().flatten(1).sum(1)).sqrt()


def blur_difference(x: Tensor) -> Tensor:
    """``1/2 sum (x - blur(x))^2``, without a gradient through the blur."""
    return 0.5 * (x - blur(x, 3).detach()).square().flatten(1).sum(1)


def boundary(x: Tensor, mask: Tensor | None, margin: int, centre: float) -> Tensor:
    """``-sum mask ((blur x - x)^2 + 0.8 (x - centre)^2)``; without a mask, of the margin."""
    if mask is None:
        mask = torch.ones_like(x[:1, :1])
        mask[..., margin:-margin, margin:-margin] = 0
    cost = (blur(x, 5) - x).square() + 0.8 * (x - centre).square()
    return -(mask * cost).flatten(1).sum(1)


def alignment(a: Tensor, views: int, ratio: float) -> Tensor:
    """``-sum_d sum_i mean (a_i - a_(i+d))^2 / ratio^d``, d from 1 to 4; each pair is half of each of its images."""
    series = a.flatten(1).unflatten(0, (-1, views))  # [N,K,P]
    score = series.new_zeros(series.shape[:2])
    for d in range(1, min(5, len(series))):
        cost = (series[d:] - series[:-d]).square().mean(2) / ratio**d / 2
        score = score - F.pad(cost, (0, 0, 0, d)) - F.pad(cost, (0, 0, d, 0))
    return score.flatten()


def diversity(a: Tensor, views: int) -> Tensor:
    """``sum_(j != i) <G_i, G_j> / N`` of the Gram matrices, each of length 1."""
    flat = a.flatten(2)
    gram = (flat @ flat.mT).flatten(1)
    gram = gram / gram.square().sum(1, keepdim=True).clamp(min=1e-10).sqrt()
    each = gram.unflatten(0, (-1, views)).transpose(0, 1)  # [K,N,CC]
    others = (each @ each.mT).sum(2) - each.square().sum(2)
    return (others / each.shape[1]).transpose(0, 1).flatten()
