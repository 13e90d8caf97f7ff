"""What a gate could be brought to at all: its logit as a function of the squeeze, and the bounds of that in nature.

A gate sees the image through its block's squeeze ``p = mean_hw x`` alone, so the question whether a picture can open
it has two halves: is there a squeeze that would, and is there a picture with that squeeze. The first is answered here
without any picture. A render that falls short of a far bound is a failed ascent; one at a near bound is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput, ModelError
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.taps import INPUT, Reached, hooked

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import GateStatistics

STARTS, POOL = 3, 2048
KEPT = 1e-5  # of the variance: directions of the squeeze with less are noise, and their inverses explode


def excitation(model: TappedModel, site: GateSite | str) -> Callable[[Tensor], Tensor]:
    """The function from a squeeze to the logits of its block, ``[B,C] -> [B,C]``, differentiable.

    It is the network's own forward from the first layer that reads the squeeze, whatever the block is written like.

    >>> import featureviz as fv
    >>> z = excitation(fv.load("embedded"), "features.9.block.2")
    >>> z(torch.zeros(2, 320)).shape
    torch.Size([2, 320])

    Raises:
        ModelError: where the logits are no function of the mean alone: CBAM, attention pooling, spatial gates.
    """
    site = tapped(model).gates.resolve(site)
    if not site.fc1:
        raise ModelError(
            f"the logits of {site.name!r} ({site.kind}) are not a function of its channels' means alone, so there is no"
            " squeeze to vary; choose an SE, effective SE or ECA block"
        )
    return _Excitation(model, site)


@final
class _Excitation:
    def __init__(self, model: TappedModel, site: GateSite) -> None:
        self.model, self.site, self.running = model, site, model.isolated()
        self.inside = site.x.side == INPUT and site.fc1.startswith(f"{site.x.module}.")

    def __call__(self, squeeze: Tensor) -> Tensor:
        if squeeze.ndim != 2 or squeeze.shape[1] != self.site.channels:
            raise InvalidInput(
                f"a squeeze of shape {list(squeeze.shape)} was given for {self.site.name!r}; expected"
                f" [B,{self.site.channels}]"
            )
        taken: list[Tensor] = []

        def take(_name: str, tensor: Tensor) -> None:
            taken.append(self.site.logits.reshape(tensor))
            raise Reached

        def override(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return squeeze.view(len(squeeze), *args[0].shape[1:]), *args[1:]

        handle = self.running.net.get_submodule(self.site.fc1).register_forward_pre_hook(override)
        try:
            with hooked(self.running.net, {"z": self.site.logits}, take):
                self._run(squeeze)
        except Reached:
            return taken[0]
        finally:
            handle.remove()
        raise ModelError(f"the logits of {self.site.name!r} were not reached from its squeeze")

    def _run(self, squeeze: Tensor) -> None:
        if self.inside:
            block = self.running.net.get_submodule(self.site.x.module)
            point = squeeze[:, :, None, None]  # a map of one position is its own mean
            block(point if self.site.x.axis == 1 else point.movedim(1, -1))
        else:
            self.running(
                self.model.noise_images(1)
            )  # the block's own layers get the squeeze in the place of this image's


@final
@dataclass(frozen=True)
class Ellipsoid:
    """Natural squeezes as a ball: ``p = mean + axes u`` with ``|u| <= radius``, axes ``[C,k]``.

    The axes are the principal directions, each as long as its sd, that hold all but 1e-5 of the variance; the radius is
    that of the natural sample's 99.9 %, or the largest where it has fewer than a thousand images.
    """

    mean: Tensor
    axes: Tensor
    inverse: Tensor
    radius: float

    @classmethod
    def of(cls, natural: GateStatistics, site: str) -> Ellipsoid:
        """Of a block's natural squeezes; they must have been measured and kept."""
        s = natural[site]
        variance, directions = torch.linalg.eigh(s.squeeze_covariance.double())
        kept = variance > KEPT * variance.amax().clamp(min=1e-30)
        sd, directions = variance[kept].sqrt(), directions[:, kept]
        inverse = (directions / sd).T
        distances = ((s.squeeze_sample.double() - s.squeeze_mean.double()) @ inverse.T).norm(dim=1)
        radius = float(distances.quantile(0.999)) if len(distances) else math.sqrt(len(sd))
        return cls(s.squeeze_mean.float(), (directions * sd).float(), inverse.float(), radius)

    def distance(self, squeeze: Tensor) -> Tensor:
        """``[B,C]`` to ``[B]``: how far out, in radii; 1 is as far as nature goes, whatever lies off the axes apart."""
        return ((squeeze - self.mean.to(squeeze)) @ self.inverse.T.to(squeeze)).norm(dim=1) / self.radius


@final
@dataclass(frozen=True)
class Bounds:
    """How far natural squeezes can bring the logits ``[C]`` of a block, and their natural mean.

    ``hull_low`` and ``hull_high`` are what mixtures of natural squeezes give at most, their convex hull; a render past
    these has left nature behind. ``low`` and ``high`` are what the natural ellipsoid gives at most: squeezes as unusual
    as the most unusual picture in a thousand, in the one direction that suits the gate best. In hundreds of dimensions
    that is far outside of the hull; what lies beyond it no picture with natural statistics can do.
    ``lowest_squeeze`` and ``highest_squeeze`` ``[C,C]`` are the squeezes that give these, a row a gate.
    """

    site: str
    mean: Tensor
    hull_low: Tensor
    hull_high: Tensor
    low: Tensor
    high: Tensor
    lowest_squeeze: Tensor
    highest_squeeze: Tensor
    ellipsoid: Ellipsoid

    def reached(self, unit: int, logit: float | Tensor) -> float:
        """How much of the way from the natural mean to the bound on its side a logit has gone; above 1, it is past."""
        z, mean = float(logit), float(self.mean[unit])
        bound = float(self.high[unit] if z >= mean else self.low[unit])
        return (z - mean) / (bound - mean) if bound != mean else 0.0


def bounds(model: TappedModel, site: GateSite | str, natural: GateStatistics, *, steps: int = 40) -> Bounds:
    """The highest and lowest logit of every gate of a block within the hull and the ellipsoid of natural squeezes.

    In the hull by conditional gradients (Frank & Wolfe 1956), from the most extreme picture of the sample. In the
    ellipsoid by projected gradient ascent in squeeze space, of all gates at once, from the best three of a pool:
    natural squeezes, these moved out to the ellipsoid's surface, and random points on it. The best point ever seen is
    kept, so the bounds are never inside the range of natural squeezes within the ellipsoid.

    Args:
        model: the network that was measured.
        site: one of its blocks.
        natural: statistics with squeezes (``compact`` ones have none).
        steps: of ascent, from each start.
    """
    site = tapped(model).gates.resolve(site)
    z, ball = excitation(model, site), Ellipsoid.of(natural, site.name)
    sample = natural[site.name].squeeze_sample.to(model.device)
    (low, lowest), (high, highest) = (_climbed(z, ball, sample, sign, steps) for sign in (-1.0, 1.0))
    hull_low, hull_high = (_mixed(z, sample, sign, steps) for sign in (-1.0, 1.0))
    mean = natural[site.name].logit_mean
    return Bounds(site.name, mean, -hull_low, hull_high, -low, high, lowest, highest, ball)


def _mixed(z: Callable[[Tensor], Tensor], sample: Tensor, sign: float, steps: int) -> Tensor:
    """For each gate the highest ``sign * z`` found in the convex hull of ``sample``, ``[C]``."""
    with torch.no_grad():
        best, start = (sign * z(sample)).max(0)
    point = sample[start]  # [C,C], a row a gate
    for step in range(steps):
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            score = sign * z(point).diagonal()
            (slope,) = torch.autograd.grad(score.sum(), point)
        best = torch.maximum(best, score.detach())
        corner = sample[(slope @ sample.T).argmax(1)]
        point = point.detach() + 2 / (step + 3) * (corner - point.detach())
    return best.cpu()


def _climbed(
    z: Callable[[Tensor], Tensor], ball: Ellipsoid, sample: Tensor, sign: float, steps: int
) -> tuple[Tensor, Tensor]:
    """For each gate the highest ``sign * z`` found ``[C]``, and its squeeze ``[C,C]``."""
    device = sample.device
    axes, mean, inverse = ball.axes.to(device), ball.mean.to(device), ball.inverse.to(device)
    gates, k = axes.shape
    best = torch.full((gates,), -torch.inf, device=device)
    where = torch.zeros(gates, k, device=device)
    pool = _pool(ball, (sample - mean) @ inverse.T)
    with torch.no_grad():
        starts = (sign * z(mean + pool @ axes.T)).topk(min(STARTS, len(pool)), dim=0).indices  # [STARTS,C]
    for start in starts:
        u = pool[start]
        for step in range(steps + 1):
            u = u.detach().requires_grad_()
            with torch.enable_grad():
                score = sign * z(mean + u @ axes.T).diagonal()
                (slope,) = torch.autograd.grad(score.sum(), u)
            better = score.detach() > best
            best = torch.where(better, score.detach(), best)
            where = torch.where(better[:, None], u.detach(), where)
            rate = ball.radius * max(1 - step / max(steps, 1), 0.02)
            u = _inside(u.detach() + rate * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12), ball.radius)
    return best.cpu(), (mean + where @ axes.T).cpu()


def _pool(ball: Ellipsoid, natural: Tensor) -> Tensor:
    """Where to start from, ``[P,k]`` within the ball."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(POOL, ball.axes.shape[1], generator=generator).to(natural)
    outward = torch.cat([natural, -natural, noise])
    surface = outward * (ball.radius / outward.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return torch.cat([torch.zeros_like(noise[:1]), _inside(natural, ball.radius), surface])


def _inside(u: Tensor, radius: float) -> Tensor:
    return u * (radius / u.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
