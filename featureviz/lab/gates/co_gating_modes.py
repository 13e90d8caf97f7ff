"""Co-gating modes: the few directions in which the gates of a block vary together.

A block computes the logits of its C gates from r bottleneck units, so natural logits lie close to r directions. Each
direction is one thing that the block detects in a picture, and a render along it shows what that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from featureviz.checks import choice, finite, whole
from featureviz.errors import InvalidInput
from featureviz.lab.statistics.gate_statistics import GateStatistics, measured
from featureviz.network.activations import Activations
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import GATE
from featureviz.objectives.algebra import Objective
from featureviz.objectives.leaves import Direction

ITERATIONS = 200  # updates of the factorisation
POWER = 16  # of a cosine: with more of them nothing is left of the score


@final
class Along(Objective):
    """The amount of one direction in a block's gates, and of no other: ``t max(0.3, cos)^power``.

    ``t = (z - mean) . v / sd`` with the logits z, their natural ``mean`` ``[C]``, and ``v`` the ``vector`` ``[C]``
    scaled to length 1; ``cos`` is the cosine between ``z - mean`` and v. With ``sd`` of the natural logits along v, t
    is in natural standard deviations. The cosine is clamped so that the gradient does not vanish if an image starts on
    the wrong side. ``label`` names the direction in the spec.

    >>> Along("block", torch.tensor([0.6, 0.8]), torch.zeros(2), 2.0, 1.0, "open")
    Along(block, tensor([0.6, 0.8]), tensor([0.0, 0.0]), 2.0, 1.0, "open")
    """

    FLOOR = 0.3  # with Lucid's 0.1, the power 4 makes the gradient smaller than Adam's epsilon

    def __init__(
        self, site: str, vector: Tensor, mean: Tensor, sd: float, power: float = 0.0, label: str = "direction"
    ) -> None:
        sd, power = finite("sd", sd), finite("power", power, 0, POWER)
        length = vector.norm()
        if vector.shape != mean.shape or vector.ndim != 1 or not length > 0 or not sd > 0:
            raise InvalidInput(
                f"Along({site!r}) got a vector {list(vector.shape)} of length {float(length):.3g}, a mean"
                f" {list(mean.shape)} and sd={sd:.3g}; expected both [C], length and sd positive"
            )
        super().__init__([GATE + site])
        self.vector, self.mean = nn.Buffer(vector / length), nn.Buffer(mean.clone())
        self.sd, self.power = sd, power

    def forward(self, activations: Activations) -> Tensor:
        amount = (activations[self.layers[0]] - self.mean) @ self.vector / self.sd
        return amount * self.cosine(activations).clamp(min=self.FLOOR) ** self.power if self.power else amount

    def cosine(self, activations: Activations) -> Tensor:
        """``[M]``: the cosine between ``z - mean`` and the direction."""
        change = activations[self.layers[0]] - self.mean
        return change @ self.vector / change.norm(dim=1).clamp(min=1e-12)


@final
@dataclass(frozen=True)
class Modes:
    """The k modes of a block."""

    site: str
    vectors: Tensor  # [k,C], of length 1
    share: Tensor  # [k], of the logits' variance
    sd: Tensor  # [k], of the logits along each mode
    mean: Tensor  # [C], the natural mean of the logits

    def objective(self, mode: int, sign: int = 1, *, power: float = 0.0) -> Objective:
        """The objective that drives the block along a mode (``sign=1``) or against it (``sign=-1``).

        It is ``sign * z . v``; with a ``power`` it is ``Along``, which keeps the image on the mode.
        """
        mode, sign = whole("mode", mode, 0, len(self) - 1), whole("sign", sign, -1, 1)
        if not finite("power", power, 0, POWER):
            return Direction(GATE + self.site, sign * self.vectors[mode])
        label = f"{'+' if sign > 0 else '-'}mode {mode}"
        return Along(self.site, sign * self.vectors[mode], self.mean, float(self.sd[mode]), power, label)

    def amounts(self, logits: Tensor) -> Tensor:
        """``[N,C]`` to ``[N,k]``: the amount of each mode, in natural standard deviations from the mean."""
        return (logits - self.mean) @ self.vectors.T / self.sd

    def cosines(self, logits: Tensor) -> Tensor:
        """``[N,C]`` to ``[N,k]``: the cosine between ``z - mean`` and each mode."""
        change = logits - self.mean
        return change @ self.vectors.T / change.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def __len__(self) -> int:
        return len(self.vectors)


@own_surroundings
def modes(natural: GateStatistics, site: str, count: int = 6, *, method: str = "svd") -> Modes:
    """The ``count`` strongest co-gating modes of a block.

    ``"svd"`` gives the principal directions of the logits' covariance: they are orthogonal and have both signs.
    ``"nmf"`` factors the logits minus their minimum into non-negative vectors (Lee & Seung 2001). These only open
    gates, and each often shows a single thing. ``share`` is the variance of the projection on each vector alone.

    >>> import featureviz as fv
    >>> natural = fv.lab.GateStatistics.measure(fv.load("embedded"), torch.rand(8, 3, 64, 64))
    >>> modes(natural, "features.9.block.2", 3).vectors.shape
    torch.Size([3, 320])
    """
    choice("method", method, ("svd", "nmf"))
    s, count = measured(natural)[site], whole("count", count)
    covariance = s.logit_covariance.double()
    most = min(len(covariance), natural.count - 1)
    if not 1 <= count <= most:
        raise InvalidInput(f"count={count} modes of {site!r} was given; there are 1 to {most}")
    vectors = _principal(covariance, count) if method == "svd" else _factorise(s.logit_sample.double(), count)
    variance = (vectors @ covariance * vectors).sum(1).clamp(min=0)
    order = variance.argsort(descending=True)
    vectors, variance = vectors[order], variance[order]
    share, sd = variance / covariance.trace().clamp(min=1e-30), variance.sqrt()
    sd = sd.clamp(min=max(1e-6 * float(sd[0]), 1e-12))  # no natural logit varies along some modes
    return Modes(site, vectors.float(), share.float(), sd.float(), s.logit_mean)


def _principal(covariance: Tensor, count: int) -> Tensor:
    """The eigenvectors of the largest eigenvalues, each with the sign for which it opens more than it closes."""
    _, vectors = torch.linalg.eigh(covariance)
    strongest = vectors[:, -count:].T
    return strongest * torch.where(strongest.sum(1, keepdim=True) < 0, -1, 1)


def _factorise(sample: Tensor, count: int) -> Tensor:
    """Non-negative factors of ``[R,C]`` by multiplicative updates, from the absolute principal directions."""
    data = sample - sample.amin(0)
    factors = _principal(torch.cov(data.T), count).abs() + 1e-3
    amounts = (data @ factors.T).clamp(min=1e-6)
    for _ in range(ITERATIONS):
        amounts = amounts * (data @ factors.T) / (amounts @ (factors @ factors.T)).clamp(min=1e-12)
        factors = factors * (amounts.T @ data) / ((amounts.T @ amounts) @ factors).clamp(min=1e-12)
    return factors / factors.norm(dim=1, keepdim=True).clamp(min=1e-12)
