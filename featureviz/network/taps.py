"""Reading a network from outside: taps, and hooks that last for one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.network.axes import Axes

INPUT, OUTPUT = "input", "output"  # the picture and what the network returns, unless a module has that name
ALPHA = ".alpha"  # of an image with transparency, as it is before any transform; no layer of the network
IMAGE, RETURNED = ".input", ".output"  # the same two, whatever the modules are called: no path begins with a dot
GATE, GATE_VALUE = "gate:", "gate value:"  # these prefixes and the next are followed by the name of a gated block
HEAD = "head:"  # and the path of an attention
PRE_GATE, GATED, BOTTLENECK = "pregate:", "gated:", "bottleneck:"


@final
@dataclass(frozen=True)
class Tap:
    """Where a tensor is read: the path of a module, and ``side``, its output or its input.

    The path may also be ``IMAGE`` or ``RETURNED``. ``flat`` makes the tensor ``[M,C]``. ``axis`` is the axis of its
    channels, which are moved to axis 1. ``axes`` are those of the tensor after this; None for channels first.
    ``splits`` is the path of an attention of torch's, whose projection is made a module that runs.
    """

    module: str
    side: str = OUTPUT
    flat: bool = False
    axis: int = 1
    axes: Axes | None = None
    splits: str = ""

    def reshape(self, tensor: Tensor) -> Tensor:
        tensor = tensor.flatten(1) if self.flat else tensor
        return tensor if self.axis == 1 else tensor.movedim(self.axis, 1)


class Reached(BaseException):
    """Every tap has been read, so the network is left. No ``Exception``: the handlers of a network let it pass."""


@contextmanager
def hooked(net: nn.Module, taps: Mapping[str, Tap], take: Callable[[str, Any], None]) -> Iterator[None]:
    """Inside the block, ``take(name, tensor)`` is called with what passes each tap."""
    handles = []
    try:
        for name, tap in taps.items():
            module = net.get_submodule(tap.module)
            if tap.side == INPUT:
                hook = partial(_before, partial(take, name))
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(partial(_after, partial(take, name))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_tensor(output: Any) -> Tensor | None:
    """The tensor that a module gives: itself, the first of a tuple, or the one of a dictionary; else None.

    A tuple's first tensor is what an attention or a recurrent layer passes on; ``logits``, ``last_hidden_state`` and
    ``out`` are what networks return in a dictionary beside other things.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)):
        return output[0] if output and isinstance(output[0], Tensor) else None
    for name in ("logits", "last_hidden_state", "out"):
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    tensors = [v for v in output.values() if isinstance(v, Tensor)] if isinstance(output, Mapping) else []
    return tensors[0] if len(tensors) == 1 else None


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module is called with: its first argument, whether by position or by keyword."""
    return next(iter([*args, *kwargs.values()]), None)


def _before(take: Callable[[Any], None], _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with hide_from_modes():
        take(first_argument(args, kwargs))


def _after(take: Callable[[Any], None], _module: nn.Module, _args: Any, output: Any) -> None:
    with hide_from_modes():
        take(output)


def hide_from_modes() -> AbstractContextManager[None]:
    """Hide what a hook computes from function modes: gates in plain functions are found by counting calls."""
    return torch._C.DisableTorchFunction()
