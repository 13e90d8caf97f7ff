"""Watching the functions of a forward: where the output of a squashing function scales a feature map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from featureviz.gating.patch import Call
from featureviz.gating.verify import may_squash

SQUASH: dict[str, Callable[[], nn.Module] | None] = {
    "sigmoid": nn.Sigmoid, "special_expit": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid, "tanh": nn.Tanh,
    "clamp": None, "clip": None, "hardtanh": None, "relu6": None,  # the gate of these is known by its value alone
}  # fmt: skip
MULTIPLY = {"mul", "multiply"}
ARITHMETIC = {"add", "sub", "mul", "multiply", "div", "true_divide", "__rsub__"}  # with a plain number: 1 + tanh(z)
RESHAPE = {
    "view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "permute", "transpose", "movedim", "contiguous",
    "clone", "__getitem__", "to", "float", "half", "type_as", "view_as", "reshape_as",
}  # fmt: skip
EXPAND = {"expand", "expand_as", "broadcast_to"}


@final
@dataclass(frozen=True)
class SquashedTensor:
    """The output of a squashing function, with its ``shape`` before any expansion.

    ``maker`` is the path of the module that returns it, ``plain`` says that no arithmetic followed the function.
    """

    call: Call
    shape: tuple[int, ...]
    maker: str = ""
    plain: bool = True


@final
@dataclass
class ScaledMap:
    """A multiplication ``y = x * gate`` of a map by a squashed tensor.

    The gate has one value for each channel along ``axis`` of x, or one for each position if ``axis`` is 0. ``second``
    says that the map is the second operand, ``whole`` that x is the input of a module and y its output.
    """

    call: Call
    gate: SquashedTensor
    x: Tensor
    y: Tensor
    axis: int
    second: bool
    y_copy: Tensor  # because the network may overwrite y
    whole: bool = False


@final
class Tracer(TorchFunctionMode):
    """Follows squashed tensors through reshapes and arithmetic with plain numbers to the maps that they scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled_maps: list[ScaledMap] = []
        self._squashed = WeakTensorKeyDictionary()
        self._stack: list[tuple[str | None, Tensor | None, Counter[str]]] = [(None, None, Counter())]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        for _, _, counts in self._stack:
            counts[name] += 1
        path, _, counts = self._stack[-1]
        k = counts[name]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point() and args and isinstance(args[0], Tensor):
            self._follow(Call(path, name, k, out is args[0]), strip_inplace(name), args, out)
        return out

    def _follow(self, call: Call, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        tensors = [a for a in args[:2] if isinstance(a, Tensor) and a.numel() > 1]
        squashed = self._squashed.get(tensors[0]) if tensors else None
        if name in SQUASH:
            self._squashed[out] = SquashedTensor(call, tuple(out.shape))
        elif squashed and name in RESHAPE:
            self._squashed[out] = replace(squashed, shape=tuple(out.shape))
        elif squashed and name in EXPAND:
            self._squashed[out] = squashed
        elif squashed and name in ARITHMETIC and len(tensors) == 1:
            self._squashed[out] = replace(squashed, maker="", plain=False)
        elif name in MULTIPLY and len(tensors) == 2:
            self._record_product(call, tensors[0], tensors[1], out)

    def _record_product(self, call: Call, a: Tensor, b: Tensor, out: Tensor) -> None:
        for x, g in ((a, b), (b, a)):
            gate = self._squashed.get(g)
            if gate and x.shape == out.shape and (axis := _find_channel_axis(gate.shape, x.shape)) is not None:
                self.scaled_maps.append(ScaledMap(call, gate, x, out, axis, x is b, out.clone()))

    def enter(self, path: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        self._stack.append((path, first, Counter()))

    def leave(self, path: str, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        _, first, _ = self._stack.pop()
        if first is None or not isinstance(output, Tensor):
            return
        squashed = self._squashed.get(output)
        if squashed and not squashed.maker and may_squash(module, first, output):
            self._squashed[output] = replace(squashed, maker=path)
        for scaled in self.scaled_maps:
            if scaled.y is output and scaled.x is first and scaled.call.path == path:
                scaled.whole = True


def strip_inplace(function: str) -> str:
    """The function's name without the final underscore of an in-place version."""
    return function if function.endswith("__") else function.removesuffix("_")


def _find_channel_axis(gate: tuple[int, ...], x: torch.Size) -> int | None:
    """The axis of x whose channels a gate of this shape scales; 0 for one value a position, None if neither."""
    n, ones = x[0], (1,) * (len(x) - 2)
    shape = (1,) * (len(x) - len(gate)) + gate
    if len(x) < 3 or len(shape) != len(x):
        return None
    if shape == (n, x[1], *ones) and x[2:].numel() > 1:
        return 1
    if shape == (n, *ones, x[-1]) and x[1:-1].numel() > 1:
        return -1
    return 0 if len(x) == 4 and x[1] > 1 and x[2:].numel() > 1 and shape == (n, 1, *x[2:]) else None
