"""Decorrelated colour: the linear map between a parameterization's signal and RGB, and its inverse.

Natural images vary most in brightness, and 3.6 and 7.6 times less along the two colour axes. In the decorrelated basis
equal steps along the three axes give these natural proportions. The matrix is Lucid's (Olah, Mordvintsev & Schubert
2017, "Feature Visualization"): the square root of ImageNet's colour covariance by SVD, divided by its largest column
norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featureviz.checks import flag

SVD_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
EPSILON = 5e-4  # a starting image is clipped to [EPSILON, 1 - EPSILON], where the logit is finite


def correlation() -> Tensor:
    """``[3,3]``: rows R, G, B; columns the decorrelated axes; the largest column has norm 1.

    >>> [round(v, 4) for v in correlation()[0].tolist()]
    [0.5628, 0.1948, 0.0433]
    """
    matrix = torch.tensor(SVD_SQRT, dtype=torch.float32, device="cpu")
    return matrix / matrix.norm(dim=0).max()


def to_image(signal: Tensor, matrix: Tensor | None) -> Tensor:
    """The image in (0,1) of an unbounded signal ``[N,C,H,W]``: colour matrix, then sigmoid."""
    if matrix is not None:
        signal = torch.einsum("dc,nchw->ndhw", matrix, signal)
    return torch.sigmoid(signal)


def channels_matrix(decorrelate: bool, channels: int) -> nn.Buffer | None:
    """The colour matrix as a buffer, where there is colour to decorrelate: three channels."""
    return nn.Buffer(correlation()) if flag("decorrelate", decorrelate) and channels == 3 else None


def to_signal(image: Tensor, matrix: Tensor | None) -> Tensor:
    """The inverse of ``to_image``; values are first clipped to [5e-4, 1 - 5e-4]."""
    signal = torch.logit(image, eps=EPSILON)
    if matrix is not None:
        signal = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(matrix), signal)
    return signal
