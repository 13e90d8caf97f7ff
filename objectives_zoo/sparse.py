"""One unit of a layer, with few others."""

from __future__ import annotations

from torch import Tensor

from featureviz import objective


@objective
def sparse_channel(a: Tensor, unit: int, penalty: float = 0.1) -> Tensor:
    """``mean a[:, unit] - penalty * mean |a|``: rewards one unit, penalises the whole layer; ``[M,C,...]`` to ``[M]``.

    >>> sparse_channel("features.6", 17)
    sparse_channel(features.6, 17, 0.1)
    """
    return a[:, unit].flatten(1).mean(1) - penalty * a.abs().flatten(1).mean(1)
