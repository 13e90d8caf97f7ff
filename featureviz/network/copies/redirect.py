"""Redirected gradients help units that are dead on the first image, as Lucid's ``redirected_relu_grad`` does.

The slope of a dead unit is zero, so an image that starts there cannot leave. In the first steps the backward pass of
the activation is replaced: where it passes no gradient for a whole image, it passes one that leads out of the flat end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featureviz.errors import InvalidInput

_REDIRECTED: ContextVar[frozenset[str]] = ContextVar("redirected models", default=frozenset())


@final
@dataclass(frozen=True)
class _Activation:
    """A function that is flat below ``low`` and above ``high``, and the ``slope`` that is assumed there.

    ``gradient(grad, kept)`` is the gradient of autograd. ``kept`` is the input or the output, the one that autograd
    keeps too, because the network may overwrite the other one. ``low`` and ``high`` are values of the one that is kept.
    """

    forward: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]
    slope: float
    low: float
    high: float = math.inf
    keeps_output: bool = False


def _clip(low: float, high: float) -> _Activation:
    return _Activation(
        lambda x: F.hardtanh(x, low, high),
        lambda grad, x: torch.ops.aten.hardtanh_backward(grad, x, low, high), 1.0, low, high,
    )  # fmt: skip


_RELU = _Activation(
    torch.relu, lambda grad, y: torch.ops.aten.threshold_backward(grad, y, 0), 1.0, 0.0, keeps_output=True
)
_RELU6 = _clip(0.0, 6.0)
_HARDSIGMOID = _Activation(F.hardsigmoid, torch.ops.aten.hardsigmoid_backward, 1 / 6, -3.0, 3.0)
# A hard-swish is flat for x <= -3 and falls between -3 and its minimum, so its own slope leads back to -3. With the
# flat end at -3 no unit got out in our tests; with the end at 0 the whole valley counts as dead.
_HARDSWISH = _Activation(F.hardswish, torch.ops.aten.hardswish_backward, 1.0, 0.0)
# The slope of a sigmoid becomes small, and Adam scales it up again, so |z| < 12 does not count as flat. Beyond that the
# slope at 12 is used. With 1/4 instead, the gradient would fall so much when the unit gets out that Adam stands still.
_SHUT = 1 / (1 + math.exp(12))
_SIGMOID = _Activation(
    torch.sigmoid, torch.ops.aten.sigmoid_backward, _SHUT * (1 - _SHUT), _SHUT, 1 - _SHUT, keeps_output=True
)

_BY_FUNCTION: dict[Callable[..., Any], _Activation] = {
    F.relu: _RELU, torch.relu: _RELU, torch.relu_: _RELU, Tensor.relu: _RELU, Tensor.relu_: _RELU,
    F.relu6: _RELU6, F.hardswish: _HARDSWISH, F.hardsigmoid: _HARDSIGMOID,
    torch.sigmoid: _SIGMOID, torch.sigmoid_: _SIGMOID, Tensor.sigmoid: _SIGMOID, Tensor.sigmoid_: _SIGMOID,
    torch.special.expit: _SIGMOID,
}  # fmt: skip


@contextmanager
def redirected(model: nn.Module) -> Iterator[None]:
    """Inside the block, gradients pass through activations of ``model`` that are dead.

    This is decided for each row of each activation. If no entry of a row passes a gradient, then its entries in a flat
    end pass ``slope * grad``, where that leads out of the flat end. Values do not change. ``grad`` is the gradient of
    what is minimised, the negated score, so a negative one raises its entry.

    ==============  ==================  =======
    activation      flat ends           slope
    ==============  ==================  =======
    ReLU            x <= 0              1
    ReLU6, hardtanh x <= low, x >= high 1
    Hardswish       x <= 0              1
    Hardsigmoid     x <= -3, x >= 3     1/6
    Sigmoid         x <= -12, x >= 12   6.1e-6
    ==============  ==================  =======

    It works for modules and functions, in place or not, but not for ``clamp``, which has other uses. A row is an entry
    of the first dimension. It is meant for the first steps: Lucid takes 16. Nothing here waits for the device.

    Raises ``InvalidInput`` if ``model`` is not wrapped.

    >>> import featureviz as fv
    >>> model, x = fv.wrap(nn.Sequential(nn.ReLU())), torch.full((1, 3, 2, 2), -1.0, requires_grad=True)
    >>> with redirected(model):
    ...     bool(torch.autograd.grad(-model(x, ["0"])["0"].sum(), x)[0].any())
    True
    """
    key = getattr(model, "key", None)
    if not isinstance(key, str):
        raise InvalidInput(
            f"a {type(model).__name__} was given for the model; wrap it first:"
            " fv.wrap(net, mean=..., std=..., size=...)"
        )
    before = _REDIRECTED.get()
    try:
        _REDIRECTED.set(before | {key})
        yield
    finally:
        _REDIRECTED.set(before)


def is_redirected(key: str) -> bool:
    """Whether gradients of the model with this key are redirected now, in this thread."""
    return key in _REDIRECTED.get()


@final
class Redirection(TorchFunctionMode):
    """Replaces the activations that are called under it.

    Modules and functions both pass a function mode. It is entered for the network's forward alone, so the image's and
    the objective's own sigmoids stay as they are; and it is left when a tap leaves the network by an exception.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = _clip(kwargs["min_val"], kwargs["max_val"]) if func is F.hardtanh else _BY_FUNCTION.get(func)
        x = args[0] if args else kwargs.get("input")
        if known is None or not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **kwargs)
        if kwargs.get("inplace") or func.__name__.endswith("_"):
            if known.keeps_output:
                return _Redirected.apply(x, known, True)
            return x.copy_(_Redirected.apply(x.clone(), known))  # the backward pass needs the values of the clone
        return _Redirected.apply(x, known)


@final
class _Redirected(torch.autograd.Function):
    """The activation, with the backward of ``redirected``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: _Activation, inplace: bool = False) -> Tensor:
        y = activation.forward(x)
        if inplace:
            y = x.copy_(y)
            ctx.mark_dirty(x)
        ctx.activation = activation
        ctx.save_for_backward(y if activation.keeps_output else x)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (kept,), a = grads, ctx.saved_tensors, ctx.activation
        ordinary = a.gradient(grad, kept)
        if _on_host(kept) and _alive(ordinary, kept, a):
            return ordinary, None, None
        below, above = kept <= a.low, kept >= a.high
        nothing = (below | above | (ordinary == 0))[..., None]  # one more dimension, so that every row can be reduced
        dead = nothing.all(tuple(range(1, nothing.ndim)), keepdim=True)[..., 0]
        outwards = (below & (grad < 0)) | (above & (grad > 0))  # out of the flat end, because a step goes against grad
        return torch.where(dead & outwards, a.slope * grad, ordinary), None, None


def _on_host(tensor: Tensor) -> bool:
    """Whether reading a number of this tensor does not wait for a device."""
    return tensor.device.type == "cpu"


def _alive(ordinary: Tensor, kept: Tensor, a: _Activation) -> bool:
    """Whether the middle row of each map shows, for every image, that some entry passes a gradient.

    Then nothing is redirected, and passes over whole maps are saved.
    """
    if kept.ndim > 2:
        middle = kept.shape[-2] // 2
        ordinary, kept = ordinary[..., middle, :], kept[..., middle, :]
    passes = (ordinary != 0) & (kept > a.low) & (kept < a.high)
    return bool(passes.flatten(1).any(1).all()) if passes.ndim > 1 else False
