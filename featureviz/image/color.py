"""Decorrelated colour: the linear map between a parameterization's signal and RGB, and its inverse.

Natural images vary most in brightness, 3.6 and 7.6 times less along the two colour axes. Working in the decorrelated
basis makes the three cost the same. The matrix is Lucid's (Olah, Mordvintsev & Schubert 2017, "Feature
Visualization"): the square root of ImageNet's colour covariance by SVD, divided by its largest column norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

SVD_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
EPSILON = 5e-4  # the darkest and brightest that a started-from image keeps: half of the 1e-3 it may change by


def correlation() -> Tensor:
    """``[3,3]``: rows R, G, B; columns the decorrelated axes; the largest column has norm 1.

    >>> [round(v, 4) for v in correlation()[0].tolist()]
    [0.5628, 0.1948, 0.0433]
    """
    matrix = torch.tensor(SVD_SQRT)
    return matrix / matrix.norm(dim=0).max()


def to_image(signal: Tensor, matrix: Tensor | None) -> Tensor:
    """Unbounded signal ``[N,C,H,W]`` to an image in (0,1): colour matrix, then sigmoid."""
    if matrix is not None:
        signal = torch.einsum("dc,nchw->ndhw", matrix, signal)
    return torch.sigmoid(signal)


def to_signal(image: Tensor, matrix: Tensor | None) -> Tensor:
    """The inverse of ``to_image``; values closer than 5e-4 to 0 or 1 are moved there."""
    signal = torch.logit(image, eps=EPSILON)
    if matrix is not None:
        signal = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(matrix), signal)
    return signal
