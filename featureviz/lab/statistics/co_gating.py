"""How the gates of a block vary together: correlation, effective rank, and an order that shows groups."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RESOLUTION = 2.0**-23  # of float32: a standard deviation below this share of the mean is rounding error


def correlation(covariance: Tensor, mean: Tensor) -> Tensor:
    """The correlations ``[C,C]`` of a covariance ``[C,C]``.

    A variable whose standard deviation is only rounding error of float32 gets 0 everywhere, on the diagonal too.
    """
    sd = covariance.diagonal().sqrt()
    varies = sd > RESOLUTION * mean.abs()
    scale = torch.where(varies, 1 / sd.clamp(min=1e-300 if sd.dtype == torch.float64 else 1e-37), 0.0)
    return (covariance * scale[:, None] * scale).clamp(-1, 1)


def effective_rank(matrix: Tensor) -> Tensor:
    """``exp(-sum p log p)`` of the normalised eigenvalues p (Roy & Vetterli 2007): from 1 to C; 0 for a zero matrix."""
    eigenvalues = torch.linalg.eigvalsh(matrix).clamp(min=0)
    total = eigenvalues.sum()
    if float(total) == 0:
        return torch.zeros_like(total)
    return torch.special.entr(eigenvalues / total).sum().exp()


def order_by_correlation(matrix: Tensor) -> Tensor:
    """Correlations ``[C,C]`` with rows and columns reordered, so that gates that vary together are neighbours.

    The order is by the angle of the first two principal components, cut at the widest gap (Friendly 2002).
    """
    _, vectors = torch.linalg.eigh(matrix.double())
    angle, order = torch.atan2(vectors[:, -2], vectors[:, -1]).sort(stable=True)
    gaps = torch.cat([angle[1:], angle[:1] + 2 * math.pi]) - angle
    order = order.roll(-int(gaps.argmax()) - 1)
    return matrix[order][:, order].float()
