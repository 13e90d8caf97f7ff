"""Watching the functions of a forward: where a squashed number scales a map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

SQUASH: dict[str, Callable[[], nn.Module] | None] = {
    "sigmoid": nn.Sigmoid, "special_expit": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid, "tanh": nn.Tanh,
    "clamp": None, "clip": None, "hardtanh": None, "relu6": None,  # of these only what comes out can be named
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
class Call:
    """The k-th call of a function within one forward of the module at ``path``, calls of modules inside counted."""

    path: str | None  # None outside the network
    function: str
    k: int
    inplace: bool = False


@final
@dataclass(frozen=True)
class Number:
    """A tensor that a squashing function gave, with its ``shape`` before it was expanded.

    ``maker`` is the module whose output it is; ``plain`` if no arithmetic followed the function.
    """

    call: Call
    shape: tuple[int, ...]
    maker: str = ""
    plain: bool = True

    def module(self) -> nn.Module | None:
        """One that does what the function did, if that gave the number."""
        make = SQUASH[_bare(self.call.function)] if self.plain and self.call.path is not None else None
        return make() if make else None

    @property
    def source(self) -> str:
        """The module that computes it."""
        return self.maker or self.call.path or ""


@final
@dataclass
class Product:
    """A map ``x`` scaled by a number to ``y``: by channel along ``axis``, or by position where that is 0.

    ``second`` if the map is the second operand, ``whole`` if ``y`` is its module's output and ``x`` its input.
    """

    call: Call
    number: Number
    x: Tensor
    y: Tensor
    axis: int
    second: bool
    kept: Tensor  # y, which the network may overwrite
    whole: bool = False


@final
class Recorder(TorchFunctionMode):
    """Follows squashed numbers through changes of shape, and arithmetic with plain numbers, to the maps they scale."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []
        self._numbers = WeakTensorKeyDictionary()
        self._stack: list[tuple[str | None, Tensor | None, Counter[str]]] = [(None, None, Counter())]

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """While it lasts, sees every module that is entered and left, and every function."""
        handles = []
        try:
            for path, module in net.named_modules():
                handles.append(module.register_forward_pre_hook(partial(self._enter, path)))
                handles.append(module.register_forward_hook(partial(self._leave, path)))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        call = self._counted(name)
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point() and args and isinstance(args[0], Tensor):
            self._follow(replace(call, inplace=out is args[0]), _bare(name), args, out)
        return out

    def _counted(self, name: str) -> Call:
        for _, _, counts in self._stack:
            counts[name] += 1
        path, _, counts = self._stack[-1]
        return Call(path, name, counts[name])

    def _follow(self, call: Call, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        tensors = [a for a in args[:2] if isinstance(a, Tensor) and a.numel() > 1]
        number = self._numbers.get(tensors[0]) if tensors else None
        if name in SQUASH:
            self._numbers[out] = Number(call, tuple(out.shape))
        elif number and name in RESHAPE:
            self._numbers[out] = replace(number, shape=tuple(out.shape))
        elif number and name in EXPAND:
            self._numbers[out] = number
        elif number and name in ARITHMETIC and len(tensors) == 1:
            self._numbers[out] = replace(number, maker="", plain=False)
        elif name in MULTIPLY and len(tensors) == 2:
            self._multiplied(call, tensors[0], tensors[1], out)

    def _multiplied(self, call: Call, a: Tensor, b: Tensor, out: Tensor) -> None:
        for x, g in ((a, b), (b, a)):
            number = self._numbers.get(g)
            if number and x.shape == out.shape and (axis := _axis(number.shape, x.shape)) is not None:
                self.products.append(Product(call, number, x, out, axis, x is b, out.clone()))

    def _enter(self, path: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        self._stack.append((path, first, Counter()))

    def _leave(self, path: str, module: nn.Module, _args: Any, output: Any) -> None:
        _, first, _ = self._stack.pop()
        if first is None or not isinstance(output, Tensor):
            return
        number = self._numbers.get(output)
        if number and not number.maker and elementwise(module, first, output):
            self._numbers[output] = replace(number, maker=path)
        for product in self.products:
            if product.y is output and product.x is first and product.call.path == path:
                product.whole = True


def _bare(function: str) -> str:
    """Its name without the underscore of those that work in place."""
    return function if function.endswith("__") else function.removesuffix("_")


def elementwise(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether the module may turn logits into values: as many come out as go in, and nothing in it was learnt."""
    return x.numel() == y.numel() and next(module.parameters(), None) is None


def _axis(number: tuple[int, ...], x: torch.Size) -> int | None:
    """Where the channels lie whose gates the number is; 0 if it has one a position, None if it is something else."""
    n, ones = x[0], (1,) * (len(x) - 2)
    shape = (1,) * (len(x) - len(number)) + number
    if len(x) < 3 or len(shape) != len(x):
        return None
    if shape == (n, x[1], *ones) and x[2:].numel() > 1:
        return 1
    if shape == (n, *ones, x[-1]) and x[1:-1].numel() > 1:
        return -1
    return 0 if len(x) == 4 and x[1] > 1 and x[2:].numel() > 1 and shape == (n, 1, *x[2:]) else None
