"""Gradients and integrated gradients: which pixels a score depends on.

Integrated gradients are computed by captum: ``pip install 'featureviz[attribution]'``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from featureviz.checks import whole
from featureviz.errors import FeaturevizError, unknown
from featureviz.lab.attribution.paths import GradientPaths, gradient_paths
from featureviz.lab.attribution.score_function import ScoreFunction, enable_gradients
from featureviz.lab.inputs import fit_images
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.surroundings import own_surroundings
from featureviz.objectives.goals import Goal

GREY, BLACK, BLURRED = BASELINES = ("grey", "black", "blurred")
PARTS = ("total", "content", "gate")
POINTS = 2**12  # of a quadrature, the most: their computation takes the cube of so many
_CHUNK = 32  # images in a forward pass
_BLUR = 1 / 8  # standard deviation as a share of the height: colours stay, shapes do not


class IntegratedGradients(NamedTuple):
    """The maps ``[N,h,w]``, and ``delta`` ``[N]``, by which their sums differ from the rise of the score."""

    maps: Tensor
    delta: Tensor


@own_surroundings
def gradient(model: TappedModel, objective: Goal, images: Tensor) -> Tensor:
    """How steeply a score depends on each pixel: ``max_c |ds / dx_c|`` over the colours, ``[N,h,w]``, on the CPU.

    ``objective`` is an objective or a spec, such as ``"logit:207"``, or a list with one for each image. ``images`` are
    ``[3,H,W]`` or ``[N,3,H,W]`` in [0,1]; the maps have the network's input size. Source: Simonyan, Vedaldi and
    Zisserman 2014, "Deep Inside Convolutional Networks".

    Raises:
        InvalidInput: images of another shape, type or range; a score that does not depend on the image.

    >>> import featureviz as fv
    >>> gradient(fv.load("embedded"), "logit:285", torch.rand(2, 3, 96, 96)).shape
    torch.Size([2, 96, 96])
    """
    with enable_gradients():
        score, x = ScoreFunction(model, objective), fit_images(model, images).requires_grad_()
        return torch.autograd.grad(score(x).sum(), x)[0].abs().amax(1).cpu()


@own_surroundings
def integrated_gradients(
    model: TappedModel, objective: Goal, images: Tensor, *, baseline: str = BLURRED, steps: int = 64
) -> IntegratedGradients:
    """The mean gradient between a baseline b and the image x, times ``x - b``: signed maps ``[N,h,w]``.

    ``sum_c (x - b)_c * integral of ds/dx_c (b + t (x - b)) dt``, by Gauss-Legendre quadrature. A map's sum is
    ``s(x) - s(b)`` except for ``delta``, which more steps make smaller. Source: Sundararajan, Taly and Yan 2017,
    "Axiomatic Attribution for Deep Networks".

    The baseline is ``"blurred"``: the image after a Gaussian whose sd is an eighth of its height; ``"grey"`` (0.5); or
    ``"black"``. A pixel that equals the baseline gets zero, such as a black pixel with ``"black"``. From a flat image
    the score jumps at the first details, so ``delta`` decreases slowly with ``steps``, the points of the quadrature.

    Raises:
        InvalidInput: as ``gradient``; or ``steps`` below 1.
        FeaturevizError: captum is not installed.
    """
    steps, method, maps, deltas = _check_steps(steps), import_captum("IntegratedGradients"), [], []
    with enable_gradients():
        score = ScoreFunction(model, objective)
        score.check_alone()
        for number, x in enumerate(fit_images(model, images).split(1)):  # captum makes batches of steps, not of images
            values, delta = method(score.for_image(number)).attribute(
                x, make_baseline(x, baseline), n_steps=steps, internal_batch_size=_CHUNK, return_convergence_delta=True
            )
            maps.append(values.sum(1))
            deltas.append(delta)
    return IntegratedGradients(torch.cat(maps).detach().float().cpu(), torch.cat(deltas).detach().float().cpu())


@own_surroundings
def integrated_gradient_paths(
    model: TappedModel, objective: Goal, images: Tensor, site: str | GateSite, *, baseline: str = BLURRED,
    steps: int = 64,
) -> GradientPaths:  # fmt: skip
    """Integrated gradients, split into what flows through a block's content and what flows through its gates.

    ``total`` ``[N,3,h,w]`` sums to ``s(x) - s(b)``. ``content`` and ``gate`` sum to their shares of it, in units of the
    score. It needs no captum.

    >>> import featureviz as fv
    >>> model, image = fv.load("embedded"), torch.rand(3, 96, 96)
    >>> integrated_gradient_paths(model, "logit:285", image, "features.9.block.2", steps=8).content.shape
    torch.Size([1, 3, 96, 96])
    """
    (nodes, weights), maps = _make_quadrature(steps), []
    with enable_gradients():
        score = ScoreFunction(model, objective)
        score.check_alone()
        for number, x in enumerate(fit_images(model, images).split(1)):
            start, goal = make_baseline(x, baseline), score.for_image(number).objective
            points = (start + nodes.to(x)[:, None, None, None] * (x - start)).clamp(0, 1)
            chunks = [gradient_paths(model, goal, chunk, site) for chunk in points.split(_CHUNK)]
            gradients = torch.stack([torch.cat([getattr(c, part) for c in chunks]) for part in PARTS])
            maps.append((x - start).cpu() * torch.einsum("k,pkchw->pchw", weights, gradients))
    return GradientPaths(tapped(model).gates.resolve(site).name, *torch.stack(maps, 1))


def make_baseline(x: Tensor, baseline: str) -> Tensor:
    """The baseline of images ``[N,3,h,w]``, of the same shape."""
    if not isinstance(baseline, str) or baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    return blur(x, _BLUR) if baseline == BLURRED else torch.full_like(x, 0.5 if baseline == GREY else 0.0)


def blur(maps: Tensor, share: float) -> Tensor:
    """``[N,C,H,W]`` after a Gaussian whose sd is a share of the height; the edges are reflected."""
    from kornia.filters import gaussian_blur2d  # imported here because it takes a second

    sigma = share * maps.shape[2]
    reach = min(round(3 * sigma), min(maps.shape[2:]) - 1)
    with maps.device:  # kornia takes the caller's default
        return gaussian_blur2d(maps, 2 * reach + 1, (sigma, sigma))


def import_captum(method: str) -> Any:
    """A class of ``captum.attr``."""
    try:
        from captum import attr
    except ImportError as error:
        raise FeaturevizError(
            f"{method} needs captum, which is not installed: pip install 'featureviz[attribution]'"
        ) from error
    return getattr(attr, method)


def _check_steps(steps: int) -> int:
    return whole("steps", steps, 1, POINTS)


def _make_quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """The Gauss-Legendre nodes in [0,1] and their weights, which sum to 1."""
    nodes, weights = (torch.from_numpy(a).float() for a in np.polynomial.legendre.leggauss(_check_steps(steps)))
    return (nodes + 1) / 2, weights / 2
