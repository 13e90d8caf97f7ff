"""Reading a network from outside: where, which layers there are, and hooks that live for one forward."""

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
GATE, GATE_VALUE = "gate:", "gate value:"  # followed by the name of a gated block, as are these:
PRE_GATE, GATED, BOTTLENECK = "pregate:", "gated:", "bottleneck:"


@final
@dataclass(frozen=True)
class Tap:
    """Where a tensor is read: a module's path and the side of it, ``output`` or ``input``.

    ``flat`` makes it [M,C]; ``axis`` is where its channels lie, which are moved to axis 1.
    """

    module: str
    side: str = OUTPUT
    flat: bool = False
    axis: int = 1

    def shaped(self, tensor: Tensor) -> Tensor:
        tensor = tensor.flatten(1) if self.flat else tensor
        return tensor if self.axis == 1 else tensor.movedim(self.axis, 1)


@final
@dataclass(frozen=True)
class Layer:
    """One row of ``fv.layers``: a module that ran, in order of running, with its output's shape for one image."""

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
    """Every wanted tap has been read: leave the network. Not an Exception, so a network's own handlers let it pass."""


@contextmanager
def hooked(net: nn.Module, taps: Mapping[str, Tap], take: Callable[[str, Any], None]) -> Iterator[None]:
    """While it lasts, ``take(name, tensor)`` gets what passes each tap."""
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
    """The modules that run in ``run()``, in order of ending, and what stopped it, if anything did."""
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
        except Exception as error:  # the caller's network may raise anything; it is raised where it matters
            if out_of_memory(error):
                raise  # which may have passed by the next time
            failure = error
    ran = {n: Layer(n, type(modules[n]).__name__, s, calls[n], gives) for n, (s, gives) in outputs.items()}
    return ran, failure


def _before(take: Callable[[Any], None], _module: nn.Module, args: tuple[Any, ...]) -> None:
    with unseen():
        take(args[0])


def _after(take: Callable[[Any], None], _module: nn.Module, _args: Any, output: Any) -> None:
    with unseen():
        take(output)


def unseen() -> AbstractContextManager[None]:
    """What a hook computes is not the network's own: gates found in bare functions are known by counting calls."""
    return torch._C.DisableTorchFunction()
