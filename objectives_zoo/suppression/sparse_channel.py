"""One unit of a layer, with few others."""

from __future__ import annotations

from torch import Tensor

from featureviz import objective, zoo


@zoo.entry("sparse_channel(features.6, 17, penalty=2)", beside="features.6:17")
@objective
def sparse_channel(a: Tensor, unit: int, penalty: float = 0.1) -> Tensor:
    """One unit up and the whole layer towards 0.

    ``mean_p a_up - penalty mean_{c,p} |a_cp|`` over channels c and positions p.

    Source: the request lucid#136, in its simplest form. The penalty has weight 0.1: enough where few channels are
    on anyway, and too little to be seen in the embedded network, which wants 2. ``isolated`` holds the others at
    their natural mean instead.

    Positions are those of a map or the tokens of a transformer; a vector has one.

    >>> sparse_channel("features.6", 17)
    sparse_channel(features.6, 17, 0.1)
    """
    a = a[:, :, None].flatten(2)  # [M,C,P], of a vector too
    return a[:, unit].mean(1) - penalty * a.abs().mean((1, 2))
