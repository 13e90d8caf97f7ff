"""Co-gating modes: the few directions in which the gates of a block move together.

A block of C gates reads its logits off r hidden units, so the logits of natural images lie close to r directions. Each
is something the block can tell of a picture; rendered, it shows what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.naming import quote_layer
from featureviz.network.activations import Activations
from featureviz.network.taps import GATE
from featureviz.objectives.algebra import Objective
from featureviz.objectives.leaves import Direction

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import GateStatistics

ITERATIONS = 200  # of the factorisation's updates


@final
class Along(Objective):
    """How far a block's gates have gone along one direction, and along that alone: ``t max(0.3, cos)^power``.

    ``t = (z - mean) . v / sd`` of the logits z, v of length 1, and ``cos`` the cosine between ``z - mean`` and v. It is
    ``Direction`` seen from the natural mean: only from there is "these gates open, those shut" a direction. Clamping
    the cosine leaves a slope where a picture begins on the wrong side.

    Args:
        site: a gated block's name.
        vector: ``[C]``, any length but 0.
        mean: ``[C]``, the natural mean of the logits.
        sd: of natural logits along the direction, so that t counts natural standard deviations.
        power: of the cosine; 0 for t alone.
        label: what specs call the direction.

    >>> Along("features.9.block.2", torch.eye(320)[7], torch.zeros(320), 2.0, power=2, label="open")
    along:features.9.block.2:open^2
    """

    FLOOR = 0.3  # Lucid's 0.1, to the power of 4, leaves Adam a slope below its epsilon

    def __init__(
        self, site: str, vector: Tensor, mean: Tensor, sd: float, power: float = 0.0, label: str = "direction"
    ) -> None:
        length = vector.norm()
        if vector.shape != mean.shape or vector.ndim != 1 or not length > 0 or not sd > 0 or power < 0:
            raise InvalidInput(
                f"Along({site!r}) got a vector {list(vector.shape)} of length {float(length):.3g}, a mean"
                f" {list(mean.shape)}, sd={sd:.3g} and power={power:g}; expected both [C], the others positive"
            )
        exponent = f"^{power:g}" if power else ""
        super().__init__([GATE + site], f"along:{quote_layer(site)}:{label}{exponent}")
        self.vector, self.mean = nn.Buffer(vector / length), nn.Buffer(mean.clone())
        self.sd, self.power = sd, power

    def forward(self, activations: Activations) -> Tensor:
        amount = (activations[self.layers[0]] - self.mean) @ self.vector / self.sd
        return amount * self.cosine(activations).clamp(min=self.FLOOR) ** self.power if self.power else amount

    def cosine(self, activations: Activations) -> Tensor:
        """``[M]``: between what the gates do and the direction."""
        moved = activations[self.layers[0]] - self.mean
        return moved @ self.vector / moved.norm(dim=1).clamp(min=1e-12)


@final
@dataclass(frozen=True)
class Modes:
    """The modes of a block.

    Attributes:
        site: the block.
        vectors: ``[k,C]`` of length 1.
        share: ``[k]``, how much of the logits' variance lies along each.
        sd: ``[k]``, of natural logits along each.
        mean: ``[C]``, the natural mean of the logits.
    """

    site: str
    vectors: Tensor
    share: Tensor
    sd: Tensor
    mean: Tensor

    def objective(self, mode: int, sign: int = 1, *, power: float = 0.0) -> Objective:
        """What to render to drive the block along a mode, or against it.

        ``+-z . v``; with a ``power`` the picture is kept on the mode: ``Along``.
        """
        if not power:
            return Direction(GATE + self.site, sign * self.vectors[mode])
        label = f"{'+' if sign > 0 else '-'}mode {mode}"
        return Along(self.site, sign * self.vectors[mode], self.mean, float(self.sd[mode]), power, label)

    def amounts(self, logits: Tensor) -> Tensor:
        """Logits ``[N,C]`` along each mode, in natural standard deviations from the mean: ``[N,k]``."""
        return (logits - self.mean) @ self.vectors.T / self.sd

    def cosines(self, logits: Tensor) -> Tensor:
        """``[N,C]`` to ``[N,k]``: the cosine between what moved, ``z - mean``, and each mode."""
        moved = logits - self.mean
        return moved @ self.vectors.T / moved.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def __len__(self) -> int:
        return len(self.vectors)


def modes(natural: GateStatistics, site: str, count: int = 6, *, method: str = "svd") -> Modes:
    """The ``count`` strongest co-gating modes of a block.

    ``"svd"`` takes the principal directions of the logits' covariance: orthogonal, of either sign, each with its share
    of the variance. ``"nmf"`` factors the logits above their smallest into non-negative parts (Lee & Seung 2001), which
    only open gates, and so often show one thing each; the share is that of the projection on each part alone.

    >>> import featureviz as fv
    >>> natural = fv.lab.GateStatistics.measure(fv.load("embedded"), torch.rand(8, 3, 64, 64))
    >>> modes(natural, "features.9.block.2", 3).vectors.shape
    torch.Size([3, 320])
    """
    if method not in ("svd", "nmf"):
        raise InvalidInput(f"method={method!r} was given; expected 'svd' or 'nmf'")
    s = natural[site]
    covariance = s.logit_covariance.double()
    most = min(len(covariance), natural.count - 1)
    if not 1 <= count <= most:
        raise InvalidInput(f"count={count} modes of {site!r} were asked for; there are 1 to {most}")
    vectors = _principal(covariance, count) if method == "svd" else _parts(s.logit_sample.double(), count)
    variance = (vectors @ covariance * vectors).sum(1).clamp(min=0)
    order = variance.argsort(descending=True)
    vectors, variance = vectors[order], variance[order]
    share, sd = variance / covariance.trace().clamp(min=1e-30), variance.sqrt()
    sd = sd.clamp(min=max(1e-6 * float(sd[0]), 1e-12))  # along what no picture moves, nothing is a natural amount
    return Modes(site, vectors.float(), share.float(), sd.float(), s.logit_mean)


def _principal(covariance: Tensor, count: int) -> Tensor:
    """Eigenvectors, each with the sign that opens more than it closes."""
    _, vectors = torch.linalg.eigh(covariance)
    strongest = vectors[:, -count:].T
    return strongest * torch.where(strongest.sum(1, keepdim=True) < 0, -1.0, 1.0)


def _parts(sample: Tensor, count: int) -> Tensor:
    """Non-negative parts of ``[R,C]`` by multiplicative updates, from the principal directions' positive sides."""
    data = sample - sample.amin(0)
    parts = _principal(torch.cov(data.T), count).abs() + 1e-3
    amounts = (data @ parts.T).clamp(min=1e-6)
    for _ in range(ITERATIONS):
        amounts = amounts * (data @ parts.T) / (amounts @ (parts @ parts.T)).clamp(min=1e-12)
        parts = parts * (amounts.T @ data) / ((amounts.T @ amounts) @ parts).clamp(min=1e-12)
    return parts / parts.norm(dim=1, keepdim=True).clamp(min=1e-12)
