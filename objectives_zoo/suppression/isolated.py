"""One unit of a layer, with the others as on natural pictures."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz import Activations, InvalidInput, Objective, TappedModel, checks, zoo
from objectives_zoo.shapes import Vector, by_position, check_width, numbers


@zoo.entry(f"isolated(features.6, 3, {[0] * 40}, {[1] * 40})", beside="features.6:3")
@final
class Isolated(Objective):
    """One unit up, and the rest of its layer held at its natural mean.

    ``t_u - weight mean_{c != u} t_c^2`` with ``t = (mean_p a_p - mean) / sd`` over positions p; ``mean`` and ``sd`` of
    each channel are those of natural pictures, as ``natural_means(model, layer, pictures)`` gives them.

    Source: the request lucid#136, in the form of ``GateContrast``. Weight 1: one standard deviation of all others costs
    as much as the unit gains by one.

    Positions are those of a map or the tokens of a transformer; a vector has one.

    >>> Isolated("conv", 1, [0, 0.5], [1, 2])
    isolated(conv, 1, [0, 0.5], [1, 2], 1.0)
    """

    def __init__(self, layer: str, unit: int, mean: Vector, sd: Vector, weight: float = 1.0) -> None:
        super().__init__([layer])
        self.unit, self.weight = checks.whole("isolated: unit", unit), checks.finite("isolated: weight", weight, 0)
        self.mean, self.sd = nn.Buffer(numbers("isolated: mean", mean)), nn.Buffer(numbers("isolated: sd", sd))
        if len(self.mean) != len(self.sd) or len(self.sd) < 2 or self.unit >= len(self.sd) or self.sd.min() <= 0:
            raise InvalidInput(
                f"isolated: unit {self.unit}, {len(self.mean)} means and {len(self.sd)} standard deviations were given;"
                " expected as many of both, at least 2, deviations above 0, and a unit among them"
            )

    def forward(self, activations: Activations) -> Tensor:
        a = by_position(activations, self.layers[0])
        check_width("isolated: mean", self.layers[0], len(self.mean), a.shape[1])
        t = (a.mean(2) - self.mean) / self.sd  # [M,C]
        own = t[:, self.unit]
        return own - self.weight * (t.square().sum(1) - own.square()) / (t.shape[1] - 1)


def natural_means(model: TappedModel, layer: str, pictures: Any) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each channel over ``pictures`` ``[N,C,H,W]``, for ``Isolated``."""
    with torch.no_grad():
        squeezed = by_position(model(pictures, [layer]), layer).mean(2)  # [N,C]
    sd = squeezed.std(0)
    return squeezed.mean(0).tolist(), sd.clamp(min=float(sd.median()) / 100 + 1e-12).tolist()
