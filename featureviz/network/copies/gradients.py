"""Other gradients through a network whose values stay as they are: smoothed max pooling, activations as lines.

Lucid's ``pooling_overrides`` and ``linearization_overrides``. The slope of a max pooling reaches one pixel of each
window, so an ascent makes checkerboards; that of a smooth pooling reaches all. Through activations as lines an ascent
sees what the weights alone would do.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SMOOTH_POOLING, LINES = "smooth pooling", "lines"
EPSILON = 1e-2  # Lucid's, under the root of the smooth pooling

_POOLINGS = {F.max_pool2d, torch.max_pool2d}
_ACTIVATIONS = {
    F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu,
    F.hardswish,
}  # fmt: skip


@final
class OtherGradients(TorchFunctionMode):
    """Replaces the backward of poolings, of activations or of both, as ``kinds`` says."""

    def __init__(self, kinds: frozenset[str]) -> None:
        super().__init__()
        self.kinds = kinds

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **kwargs)
        if func in _POOLINGS:  # of either kind
            return _pool(func, x, args[1:], {k: v for k, v in kwargs.items() if k != "input"})
        if func in _ACTIVATIONS and LINES in self.kinds:
            inplace = kwargs.pop("inplace", False) or func.__name__.endswith("_")
            value = func(x.detach().clone(), *args[1:], **{k: v for k, v in kwargs.items() if k != "input"})
            line = _Value.apply(value, x.clone() if inplace else x)
            return x.copy_(line) if inplace else line
        return func(*args, **kwargs)


def _pool(func: Any, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Max pooling with the gradient of ``sqrt(e + sum x^2)`` over each window."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(names, args, strict=False)) | kwargs
    if kwargs.get("return_indices") or given.get("dilation", 1) not in (1, (1, 1), [1, 1]):
        return func(x, *args, **kwargs)
    stride = given.get("stride") or given["kernel_size"]
    squares = F.avg_pool2d(
        x.square(), given["kernel_size"], stride, given.get("padding", 0), given.get("ceil_mode", False),
        divisor_override=1,
    )  # fmt: skip
    return _Value.apply(func(x.detach(), *args, **kwargs), (squares + EPSILON).sqrt())


@final
class _Value(torch.autograd.Function):
    """The value of one tensor with the gradient of another of its shape."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, path: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]
