"""Reading a network from outside: taps, the list of layers, and hooks that last for one forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import out_of_memory

INPUT, OUTPUT = "input", "output"
GATE, GATE_VALUE = "gate:", "gate value:"  # these prefixes and the next are followed by the name of a gated block
PRE_GATE, GATED, BOTTLENECK = "pregate:", "gated:", "bottleneck:"


@final
@dataclass(frozen=True)
class Tap:
    """Where a tensor is read: the path of a module, and ``side``, its output or its input.

    ``flat`` makes the tensor ``[M,C]``. ``axis`` is the axis of its channels, which are moved to axis 1.
    """

    module: str
    side: str = OUTPUT
    flat: bool = False
    axis: int = 1

    def reshape(self, tensor: Tensor) -> Tensor:
        tensor = tensor.flatten(1) if self.flat else tensor
        return tensor if self.axis == 1 else tensor.movedim(self.axis, 1)


@final
@dataclass(frozen=True)
class Layer:
    """One row of ``fv.layers``: a module that runs, and the shape of its output for one image."""

    name: str
    type: str
    shape: tuple[int, ...]
    calls: int
    gives: str = ""  # the type of an output that is no tensor
    gate: bool = False

    def __str__(self) -> str:
        times = f"runs {self.calls} times" if self.calls > 1 else ""
        note = "  ".join(
            ["", *filter(None, ["gate" if self.gate else "", times, self.gives and f"gives a {self.gives}"])]
        )
        return f"{self.name:40} {self.type:24} {list(self.shape)}{note}"


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
                handles.append(module.register_forward_pre_hook(partial(_before, partial(take, name))))
            else:
                handles.append(module.register_forward_hook(partial(_after, partial(take, name))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def survey(net: nn.Module, run: Callable[[], Any]) -> tuple[dict[str, Layer], Exception | None]:
    """The modules that run in ``run()``, in the order in which they end, and the error that stopped it, if any."""
    modules = {name: module for name, module in net.named_modules() if name}
    outputs: dict[str, tuple[tuple[int, ...], str]] = {}
    calls: Counter[str] = Counter()
    failure: Exception | None = None

    def note(name: str, output: Any) -> None:
        calls[name] += 1
        known = isinstance(output, Tensor)
        outputs[name] = (tuple(output.shape), "") if known else ((), type(output).__name__)

    with hooked(net, {name: Tap(name) for name in modules}, note), torch.no_grad():
        try:
            run()
        except Exception as error:  # the network may raise anything; it is raised when a layer needs it
            if out_of_memory(error):
                raise  # there may be memory the next time
            failure = error
    ran = {n: Layer(n, type(modules[n]).__name__, s, calls[n], gives) for n, (s, gives) in outputs.items()}
    return ran, failure


def _before(take: Callable[[Any], None], _module: nn.Module, args: tuple[Any, ...]) -> None:
    with hide_from_modes():
        take(args[0])


def _after(take: Callable[[Any], None], _module: nn.Module, _args: Any, output: Any) -> None:
    with hide_from_modes():
        take(output)


def hide_from_modes() -> AbstractContextManager[None]:
    """Hide what a hook computes from function modes: gates in plain functions are found by counting calls."""
    return torch._C.DisableTorchFunction()
