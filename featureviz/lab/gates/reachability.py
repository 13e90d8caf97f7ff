"""How far a gate can be brought at all: its logit as a function of the squeeze, and the logit's natural bounds.

A gate depends on the image only through its block's squeeze ``p = mean_hw x``. So whether a picture can open it is two
questions: is there such a squeeze, and is there a picture with that squeeze. This file answers the first question.
If a render stays far below a bound, the ascent failed. If it is near the bound, no more is possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import STEPS, show, whole
from featureviz.errors import InvalidInput, ModelError
from featureviz.lab.statistics.gate_statistics import GateStatistics, measured
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import INPUT, Reached, hooked

STARTS, POOL = 3, 2048
KEPT = 1e-5  # directions with a smaller share of the largest variance are noise, and their inverses are huge


def excitation(model: TappedModel, site: GateSite | str) -> Callable[[Tensor], Tensor]:
    """The function from a squeeze to the logits of its block, ``[B,C] -> [B,C]``, differentiable.

    It runs the network's own layers from the first one that reads the squeeze, so it works for any implementation.

    Raises:
        ModelError: the logits are not a function of the mean alone, as in CBAM, attention pooling and spatial gates.

    >>> import featureviz as fv
    >>> excitation(fv.load("embedded"), "features.9.block.2")(torch.zeros(2, 320)).shape
    torch.Size([2, 320])
    """
    return _Excitation(model, find_squeezed(model, site))


def find_squeezed(model: TappedModel, site: GateSite | str) -> GateSite:
    """The block of that name; raises ``ModelError`` unless its logits are a function of its squeeze alone."""
    found = tapped(model).gates.resolve(site)
    if not found.fc1:
        raise ModelError(
            f"block {found.name!r} ({found.kind}) has no layer that reads the mean of its map and nothing else, so its"
            " logits are not a function of its channels' means alone; give an SE, effective SE or ECA block"
        )
    return found


@final
class _Excitation:
    def __init__(self, model: TappedModel, site: GateSite) -> None:
        self.model, self.site, self.running = model, site, model.isolated()
        self.inside = site.x.side == INPUT and site.fc1.startswith(f"{site.x.module}.")

    def __call__(self, squeeze: Tensor) -> Tensor:
        if not isinstance(squeeze, Tensor) or squeeze.ndim != 2 or squeeze.shape[1] != self.site.channels:
            given = f"of shape {list(squeeze.shape)}" if isinstance(squeeze, Tensor) else show(squeeze)
            raise InvalidInput(f"a squeeze {given} was given for {self.site.name!r}; expected [B,{self.site.channels}]")
        logits: list[Tensor] = []

        def keep_and_stop(_name: str, tensor: Tensor) -> None:
            logits.append(self.site.logits.reshape(tensor))
            raise Reached

        def replace_squeeze(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return squeeze.view(len(squeeze), *args[0].shape[1:]), *args[1:]

        handle = self.running.net.get_submodule(self.site.fc1).register_forward_pre_hook(replace_squeeze)
        try:
            with hooked(self.running.net, {"z": self.site.logits}, keep_and_stop):
                self._run(squeeze)
        except Reached:
            return logits[0]
        finally:
            handle.remove()
        raise ModelError(f"the logits of {self.site.name!r} were not reached from its squeeze")

    def _run(self, squeeze: Tensor) -> None:
        if self.inside:
            block = self.running.net.get_submodule(self.site.x.module)
            point = squeeze[:, :, None, None]  # a map of one position is its own mean
            block(point if self.site.x.axis == 1 else point.movedim(1, -1))
        else:
            self.running(self.model.noise_images(1))  # whose squeeze the hook replaces


@final
@dataclass(frozen=True)
class SqueezeEllipsoid:
    """Natural squeezes as an ellipsoid: ``p = mean + axes u`` with ``|u| <= radius``, axes ``[C,k]``.

    The axes are the principal directions with more than 1e-5 of the largest variance, each as long as its sd. The
    radius contains 99.9 % of the natural sample; with fewer than a thousand images it is about the largest distance.
    """

    mean: Tensor
    axes: Tensor
    inverse: Tensor
    radius: float

    @classmethod
    def fit(cls, natural: GateStatistics, site: str) -> SqueezeEllipsoid:
        """The ellipsoid of a block's natural squeezes; compact statistics have none."""
        s = measured(natural)[site]
        variance, directions = torch.linalg.eigh(s.squeeze_covariance.double())
        kept = variance > KEPT * variance.amax().clamp(min=1e-30)
        sd, directions = variance[kept].sqrt(), directions[:, kept]
        inverse = (directions / sd).T
        distances = ((s.squeeze_sample.double() - s.squeeze_mean.double()) @ inverse.T).norm(dim=1)
        radius = float(distances.quantile(0.999)) if len(distances) else math.sqrt(len(sd))
        return cls(s.squeeze_mean.float(), (directions * sd).float(), inverse.float(), radius)

    def distance(self, squeeze: Tensor) -> Tensor:
        """``[B,C]`` to ``[B]``: the distance from the mean in radii; up to 1 is natural. Other axes do not count."""
        return ((squeeze - self.mean.to(squeeze)) @ self.inverse.T.to(squeeze)).norm(dim=1) / self.radius


@final
@dataclass(frozen=True)
class ReachableRange:
    """How far natural squeezes can bring the logits ``[C]`` of a block.

    The hull contains the mixtures of natural squeezes. The ellipsoid contains squeezes as unusual as the most unusual
    picture in a thousand; in hundreds of dimensions most of it lies far outside of the hull. No picture with natural
    statistics can bring a gate past the ellipsoid's bounds.
    """

    site: str
    mean: Tensor  # the natural mean of the logits
    hull_low: Tensor
    hull_high: Tensor
    low: Tensor  # in the ellipsoid
    high: Tensor
    ellipsoid: SqueezeEllipsoid


def share_of_way(mean: float, bound: float, logit: float) -> float:
    """How much of the way from the natural mean to a bound a logit has gone; above 1 it is past the bound."""
    return (logit - mean) / (bound - mean) if bound != mean else 0.0


@own_surroundings
def reachable_range(
    model: TappedModel, site: GateSite | str, natural: GateStatistics, *, steps: int = 40
) -> ReachableRange:
    """The highest and lowest logit of every gate of a block in the hull and in the ellipsoid of natural squeezes.

    In the hull: conditional gradients (Frank & Wolfe 1956) from the most extreme picture of the sample. In the
    ellipsoid: projected gradient ascent on the squeeze, for all gates at once, from the best three of a pool of natural
    squeezes, natural squeezes scaled to the ellipsoid's surface, and random points on it. The best point of the ascent
    is kept, so natural squeezes in the ellipsoid are never outside of the bounds. ``steps`` is the length of an ascent.
    """
    site, steps = tapped(model).gates.resolve(site), whole("steps", steps, 0, STEPS)
    measured(natural).check_fits(model, site.name)
    z, ellipsoid = excitation(model, site), SqueezeEllipsoid.fit(natural, site.name)
    sample = natural[site.name].squeeze_sample.to(model.device)
    low, high = (_ascend(z, ellipsoid, sample, sign, steps) for sign in (-1.0, 1.0))
    hull_low, hull_high = (_ascend_in_hull(z, sample, sign, steps) for sign in (-1.0, 1.0))
    mean = natural[site.name].logit_mean
    return ReachableRange(site.name, mean, -hull_low, hull_high, -low, high, ellipsoid)


def _ascend_in_hull(z: Callable[[Tensor], Tensor], sample: Tensor, sign: float, steps: int) -> Tensor:
    """For each gate the highest ``sign * z`` in the convex hull of ``sample``, ``[C]``."""
    with torch.no_grad():
        best, start = (sign * z(sample)).max(0)
    point = sample[start]  # [C,C], one row for each gate
    for step in range(steps):
        score, slope = _score_and_slope(z, point, sign)
        best = torch.maximum(best, score)
        corner = sample[(slope @ sample.T).argmax(1)]
        point = point + 2 / (step + 3) * (corner - point)
    return best.cpu()


def _ascend(
    z: Callable[[Tensor], Tensor], ellipsoid: SqueezeEllipsoid, sample: Tensor, sign: float, steps: int
) -> Tensor:
    """For each gate the highest ``sign * z`` in the ellipsoid, ``[C]``."""
    radius = ellipsoid.radius
    axes, mean, inverse = (t.to(sample) for t in (ellipsoid.axes, ellipsoid.mean, ellipsoid.inverse))

    def logits(u: Tensor) -> Tensor:
        return z(mean + u @ axes.T)

    best = torch.full_like(mean, -torch.inf)
    pool = _make_pool(ellipsoid, (sample - mean) @ inverse.T)
    with torch.no_grad():
        starts = (sign * logits(pool)).topk(min(STARTS, len(pool)), dim=0).indices  # [STARTS,C]
    for start in starts:
        u = pool[start]
        for step in range(steps + 1):
            score, slope = _score_and_slope(logits, u, sign)
            best = torch.where(score > best, score, best)
            rate = radius * max(1 - step / max(steps, 1), 0.02)
            u = _project(u + rate * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12), radius)
    return best.cpu()


def _score_and_slope(z: Callable[[Tensor], Tensor], point: Tensor, sign: float) -> tuple[Tensor, Tensor]:
    """``sign * z_c`` of gate c at row c of ``point`` ``[C]``, and its gradient ``[C,k]``."""
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        score = sign * z(point).diagonal()
        (slope,) = torch.autograd.grad(score.sum(), point)
    return score.detach(), slope


def _make_pool(ellipsoid: SqueezeEllipsoid, natural: Tensor) -> Tensor:
    """Candidates for the start, ``[P,k]`` in the ball of u."""
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(POOL, ellipsoid.axes.shape[1], generator=generator, dtype=torch.float32, device="cpu").to(
        natural
    )
    outward = torch.cat([natural, -natural, noise])
    surface = outward * (ellipsoid.radius / outward.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return torch.cat([torch.zeros_like(noise[:1]), _project(natural, ellipsoid.radius), surface])


def _project(u: Tensor, radius: float) -> Tensor:
    return u * (radius / u.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
