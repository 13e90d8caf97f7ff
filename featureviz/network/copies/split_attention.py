"""Torch's attention with a projection that runs as a module, so that what it gets can be read."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn


def split_attention(net: nn.Module, path: str) -> None:
    """Make the projection of the attention at ``path`` a module that runs; ``net`` is a copy that is thrown away."""
    module = net.get_submodule(path)
    if type(module) is nn.MultiheadAttention:
        module.__class__ = SplitAttention


@final
class SplitAttention(nn.MultiheadAttention):
    """Torch's attention, whose projection runs as a module of its own.

    Inside, the projection is the identity: a product with it changes no bit.
    """

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:  # pyright: ignore
        projection = self.out_proj
        weight = torch.eye(self.embed_dim, dtype=projection.weight.dtype, device=projection.weight.device)
        self.__dict__["out_proj"] = _Identity(weight)
        try:
            heads, weights = super().forward(*args, **kwargs)
        finally:
            del self.__dict__["out_proj"]
        return projection(heads), weights


class _Identity:
    """A projection that changes nothing, as torch's attention asks for one."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.bias = weight, weight.new_zeros(len(weight))
