"""Numbers in sixteen bits: autocast, and what stays in float32 under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from featureviz.checks import choice
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite

Precision = Literal["float32", "bfloat16"]


def is_half(model: TappedModel, precision: Precision) -> bool:
    """Whether the network runs under an autocast to bfloat16; one that is not float32 has a precision of its own."""
    choice("precision", precision, ("float32", "bfloat16"))
    dtype = next((p.dtype for p in model.net.parameters()), torch.float32)
    return precision == "bfloat16" and dtype == torch.float32


def autocast(views: Tensor) -> torch.autocast:
    """The autocast for what runs on ``views``."""
    return torch.autocast(views.device.type, torch.bfloat16)


def keep_float32(net: nn.Module, sites: Iterable[GateSite], order: Sequence[str]) -> None:
    """Let what makes a gate of its squeeze compute in float32: in ``order`` of running, from ``fc1`` to the gate.

    A gate's logit is a small sum of large numbers, and a hard sigmoid is flat beyond -3 and 3.
    """
    paths: set[str] = set()
    for site in sites:
        last = order.index(site.gate)
        paths.update(order[order.index(site.fc1) if site.fc1 else last : last + 1])
    for path in paths:
        module = net.get_submodule(path)
        if not any(module.children()):
            module.forward = _InFloat32(module.forward)


@final
@dataclass(frozen=True)
class _InFloat32:
    """A forward whose tensors are float32, outside of any autocast."""

    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        def wide(a: Any) -> Any:
            return a.float() if isinstance(a, Tensor) and a.dtype in (torch.bfloat16, torch.float16) else a

        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return self.forward(*map(wide, args), **{name: wide(a) for name, a in kwargs.items()})
