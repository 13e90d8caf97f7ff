"""Which pixels a score rests on: plain gradients, integrated gradients, Grad-CAM at a gated block.

Integrated gradients and Grad-CAM are captum's: ``pip install 'featureviz[attribution]'``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from featureviz.errors import FeaturevizError, InvalidInput, unknown
from featureviz.lab.attribution.gradient_paths import Scored, Split, beyond, differentiable, seen, split
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.taps import GATED, hide_from_modes
from featureviz.objectives.goals import Goal

GREY, BLACK, BLURRED = BASELINES = ("grey", "black", "blurred")
_CHUNK = 32  # images a forward
_BLUR = 1 / 8  # of the image's height: the standard deviation that leaves colours and no shapes


class Integrated(NamedTuple):
    """Integrated gradients ``maps`` ``[N,h,w]``, and by how much their sums miss completeness, ``delta`` ``[N]``."""

    maps: Tensor
    delta: Tensor


def gradient(model: TappedModel, objective: Goal, images: Tensor) -> Tensor:
    """The steepness of a score at each pixel: ``max_c |ds / dx_c|`` over the colours, ``[N,h,w]``, on the CPU.

    Source: Simonyan, Vedaldi and Zisserman 2014, "Deep Inside Convolutional Networks".

    Args:
        model: the network.
        objective: an objective or a spec, such as ``"logit:207"``, or one an image.
        images: ``[3,H,W]`` or ``[N,3,H,W]`` in [0,1]; the maps are of the size the network sees.

    Raises:
        InvalidInput: images of another shape, type or range; a score that does not depend on the image.

    >>> import featureviz as fv
    >>> gradient(fv.load("embedded"), "logit:285", torch.rand(2, 3, 96, 96)).shape
    torch.Size([2, 96, 96])
    """
    with differentiable():
        score, x = Scored(model, objective), seen(model, images).requires_grad_()
        return torch.autograd.grad(score(x).sum(), x)[0].abs().amax(1).cpu()


def integrated_gradients(
    model: TappedModel, objective: Goal, images: Tensor, *, baseline: str = BLURRED, steps: int = 64
) -> Integrated:
    """The gradient averaged on the way from a baseline b to the image x, times that way: signed maps ``[N,h,w]``.

    ``sum_c (x - b)_c * integral of ds/dx_c (b + t (x - b)) dt``, by Gauss-Legendre quadrature. A map's sum is
    ``s(x) - s(b)`` but for ``delta``, which more steps make smaller. Source: Sundararajan, Taly and Yan 2017,
    "Axiomatic Attribution for Deep Networks".

    Args:
        model: the network.
        objective: as in ``gradient``.
        images: as in ``gradient``.
        baseline: where the way begins: ``"blurred"``, the image itself through a Gaussian of an eighth of its height,
            ``"grey"`` (0.5) or ``"black"``. What equals the baseline gets nothing: black things, from black. From a
            flat image the score jumps at the first details, and ``delta`` falls slowly with ``steps``.
        steps: points of the quadrature.

    Raises:
        InvalidInput: as ``gradient``; no steps.
        UnknownName: no such baseline.
        FeaturevizError: captum is not installed.
    """
    if steps < 1:
        raise InvalidInput(f"steps={steps} was given; expected at least 1")
    method, maps, deltas = _captum("IntegratedGradients"), [], []
    with differentiable():
        score = Scored(model, objective)
        for number, x in enumerate(seen(model, images).split(1)):  # captum's batches are of steps, not of images
            found, delta = method(score.of(number)).attribute(
                x, start_of(x, baseline), n_steps=steps, internal_batch_size=_CHUNK, return_convergence_delta=True
            )
            maps.append(found.sum(1))
            deltas.append(delta)
    return Integrated(torch.cat(maps).detach().float().cpu(), torch.cat(deltas).detach().float().cpu())


def grad_cam(model: TappedModel, objective: Goal, images: Tensor, site: str | GateSite) -> Tensor:
    """Where the gated maps speak for a score: ``relu(sum_c w_c y_c)``, ``w_c = mean_hw ds/dy_c``; ``[N,h,w]``.

    y is the block's output ``[N,C,h',w']``; the map is enlarged bilinearly. Source: Selvaraju et al. 2017, "Grad-CAM:
    Visual Explanations from Deep Networks via Gradient-based Localization".

    Args:
        model: the network.
        objective: as in ``gradient``.
        images: as in ``gradient``.
        site: the gated block.

    Raises:
        InvalidInput: as ``gradient``; a block on which the score does not depend.
        UnknownName: no such block.
        FeaturevizError: captum is not installed.
    """
    method, where = _captum("LayerGradCam"), tapped(model).gates.resolve(site)
    with differentiable():
        score = Scored(model, objective)
        probe = _probed(score, where)

        def run(x: Tensor) -> Tensor:
            before = probe.calls
            found = score(x)
            if probe.calls == before:
                raise beyond(where.name, score.objective)
            return found

        x = seen(model, images).requires_grad_()
        try:
            coarse = method(run, probe).attribute(x, relu_attributions=True)
        except RuntimeError as error:
            if "not have been used" not in str(error):  # torch's way to say that nothing leads from there to here
                raise
            raise InvalidInput(
                f"{score.objective} does not depend on block {where.name!r}; give one it does"
            ) from error
    return interpolate(coarse.detach().float(), x.shape[2:], mode="bilinear", antialias=True)[:, 0].cpu()


def integrated_split(
    model: TappedModel,
    objective: Goal,
    images: Tensor,
    site: str | GateSite,
    *,
    baseline: str = BLURRED,
    steps: int = 64,
) -> Split:
    """Integrated gradients, split like the gradients they are made of: what the content and what the gates bring.

    ``total`` ``[N,3,h,w]`` sums to ``s(x) - s(b)``, and ``content`` and ``gate`` to the shares of it that came through
    the content of the block and through its gates, in units of the score. Needs no captum.

    Args:
        model: the network.
        objective: as in ``gradient``.
        images: as in ``gradient``.
        site: the gated block.
        baseline: as in ``integrated_gradients``.
        steps: as in ``integrated_gradients``.

    Raises:
        InvalidInput: as ``split``; no steps.
        UnknownName: no such baseline, block or layer.

    >>> import featureviz as fv
    >>> parts = integrated_split(fv.load("embedded"), "logit:285", torch.rand(3, 96, 96), "features.9.block.2", steps=8)
    >>> parts.content.shape
    torch.Size([1, 3, 96, 96])
    """
    (nodes, weights), ways, parts = _quadrature(steps), [], []
    with differentiable():
        score = Scored(model, objective)
        for number, x in enumerate(seen(model, images).split(1)):
            start, goal = start_of(x, baseline), score.of(number).objective
            points = (start + nodes.to(x)[:, None, None, None] * (x - start)).clamp(0, 1)
            ways.append((x - start).cpu())
            parts.append([split(model, goal, chunk, site) for chunk in points.split(_CHUNK)])
    name, way = site if isinstance(site, str) else site.name, torch.cat(ways)

    def averaged(part: str) -> Tensor:
        slopes = torch.stack([torch.cat([getattr(chunk, part) for chunk in chunks]) for chunks in parts])
        return way * torch.einsum("k,nkchw->nchw", weights, slopes)

    return Split(name, averaged("total"), averaged("content"), averaged("gate"))


def start_of(x: Tensor, baseline: str) -> Tensor:
    """The baseline of images ``[N,3,h,w]``, of the same shape.

    >>> start_of(torch.zeros(1, 3, 8, 8), "grey").unique()
    tensor([0.5000])
    """
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    return blurred(x, _BLUR) if baseline == BLURRED else torch.full_like(x, 0.5 if baseline == GREY else 0.0)


def blurred(maps: Tensor, share: float) -> Tensor:
    """``[N,C,H,W]`` through a Gaussian whose standard deviation is a share of the height; mirrored at the edges.

    >>> blurred(torch.ones(1, 3, 8, 8), 0.1).std() < 1e-6
    tensor(True)
    """
    from kornia.filters import gaussian_blur2d  # kornia takes a second to import, which only those who blur need

    sigma = share * maps.shape[2]
    reach = min(round(3 * sigma), min(maps.shape[2:]) - 1)
    return gaussian_blur2d(maps, 2 * reach + 1, (sigma, sigma))


@final
class _Probe(nn.Module):
    """Where captum hooks in, in the place of the network: gives back what it gets, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, maps: Tensor) -> Tensor:
        self.calls += 1
        return maps


def _probed(score: Scored, site: GateSite) -> _Probe:
    """A probe that the block's output passes in the score's own copy of the network, as ``[M,C,H,W]``."""
    probe, tap = _Probe(), score.model.tap(GATED + site.name)

    def through(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        with hide_from_modes():
            maps = tap.reshape(output)
            if maps.ndim != 4:
                raise InvalidInput(f"block {site.name!r} gives {list(output.shape)}; Grad-CAM wants maps [M,C,H,W]")
            return probe(maps).movedim(1, tap.axis)

    score.running.net.get_submodule(tap.module).register_forward_hook(through)
    return probe


def _captum(method: str) -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise FeaturevizError(
            f"{method} is captum's, which is missing: pip install 'featureviz[attribution]'"
        ) from error
    return getattr(attr, method)


def _quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """Nodes in [0,1] and weights, summing to 1, of Gauss and Legendre."""
    if steps < 1:
        raise InvalidInput(f"steps={steps} was given; expected at least 1")
    nodes, weights = (torch.from_numpy(a).float() for a in np.polynomial.legendre.leggauss(steps))
    return (nodes + 1) / 2, weights / 2
