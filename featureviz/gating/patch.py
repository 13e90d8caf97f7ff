"""Changing what a module's forward does, on a private copy: single calls of functions handed to small modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from featureviz.gating.trace import Call
from featureviz.network.taps import unseen


@final
class Scale(nn.Module):
    """``x * g``."""

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x * g


@final
class ScaleBy(nn.Module):
    """``x * gate(g)`` with a gate that does nothing, where the number can be read and changed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Identity()

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x * self.gate(g)


@final
@dataclass(frozen=True)
class _Route:
    """From the arguments of a function to those of the module at ``path``, in place if the function was."""

    path: str
    module: nn.Module
    arguments: tuple[int, ...]
    inplace: bool

    def __call__(self, *args: Any) -> Tensor:
        if not self.inplace:
            return self.module(*(args[i] for i in self.arguments))
        kept = (args[0].clone(), *args[1:])  # backward will still find its values
        return args[0].copy_(self.module(*(kept[i] for i in self.arguments)))


@final
@dataclass
class Rerouted:
    """Stands in for a module's forward: chosen calls of torch functions go through submodules instead."""

    module: nn.Module
    forward: Callable[..., Any]
    routes: dict[tuple[str, int], _Route] = field(default_factory=dict)
    added: list[tuple[nn.Module, str]] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _Switch(self.routes):
            return self.forward(*args, **kwargs)


@final
class _Switch(TorchFunctionMode):
    """Counts calls as the recorder did: what stands in for a call counts as that call, in the modules around it too."""

    def __init__(self, routes: dict[tuple[str, int], _Route]) -> None:
        super().__init__()
        self.routes, self.counts, self.paused = routes, Counter[str](), 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.counts[name] += not self.paused
        route = None if self.paused else self.routes.get((name, self.counts[name]))
        if route is None:
            return func(*args, **(kwargs or {}))
        around = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, _Switch)]
        for switch in around:
            switch.counts[name] += not switch.paused
            switch.paused += 1
        try:
            return route(*args)
        finally:
            for switch in around:
                switch.paused -= 1


@final
@dataclass
class Rescaled:
    """Stands in for the forward of a block whose gate cannot be followed: ``y + x (gate(g) - g)``, ``g = <x,y>/<x,x>``.

    That is y, bitwise, and its gradients too, until something changes what the gate gives.
    """

    module: nn.Module
    forward: Callable[..., Any]
    axis: int
    gate: nn.Module = field(default_factory=nn.Identity)
    added: list[tuple[nn.Module, str]] = field(default_factory=list)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.forward(x.clone(), *args, **kwargs)  # the block may scale in place
        with unseen():
            g = ratio(x, y, self.axis)
            return y + x * along(self.gate(g) - g, self.axis, x.ndim)


def reroute(net: nn.Module, call: Call, name: str, child: nn.Module, arguments: tuple[int, ...] = (0,)) -> str:
    """Give the call to ``child``, a new submodule of the module that makes it; returns the path of what has it now."""
    assert call.path is not None  # the recorder follows nothing outside the network
    module = net.get_submodule(call.path)
    if not isinstance(module.forward, Rerouted):
        module.forward = Rerouted(module, module.forward)
    routes = module.forward.routes
    if (call.function, call.k) not in routes:
        path = _add(net, call.path, name, child, module.forward.added)
        routes[call.function, call.k] = _Route(path, child, arguments, call.inplace)
    return routes[call.function, call.k].path


def rescale(net: nn.Module, path: str, axis: int) -> str:
    """Give the block at ``path`` a gate that its output goes through; returns that gate's path."""
    module = net.get_submodule(path)
    module.forward = Rescaled(module, module.forward, axis)
    return _add(net, path, "gate", module.forward.gate, module.forward.added)


def restore(net: nn.Module) -> None:
    """Undo every change."""
    for module in list(net.modules()):
        while isinstance(changed := vars(module).get("forward"), (Rerouted, Rescaled)):
            module.forward = changed.forward
            for host, name in changed.added:
                delattr(host, name)


def _add(net: nn.Module, path: str, name: str, child: nn.Module, added: list[tuple[nn.Module, str]]) -> str:
    """Add ``child`` under the first free of name, name_2, name_3; returns its path."""
    host = net.get_submodule(path)
    if isinstance(host, fx.GraphModule):  # its copies keep only what its graph names
        plain = type(type(host).__name__, (nn.Module,), {"forward": type(host).forward})
        host.__class__ = plain  # pyright: ignore[reportAttributeAccessIssue]
    while isinstance(host, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) and len(host):  # these run all they hold
        inner, host = next(host.named_children())
        path = f"{path}.{inner}".removeprefix(".")
    free, i = name, 1
    while hasattr(host, free):
        i += 1
        free = f"{name}_{i}"
    host.add_module(free, child)
    added.append((host, free))
    return f"{path}.{free}".removeprefix(".")


def ratio(x: Tensor, y: Tensor, axis: int) -> Tensor:
    """``[N,C]``: what each channel of x is scaled by to give y; 0 where a channel is empty."""
    a, b = (t.movedim(axis, 1).flatten(2).double() for t in (x, y))
    return ((a * b).sum(2) / a.square().sum(2).clamp(min=1e-60)).to(x.dtype)


def along(g: Tensor, axis: int, ndim: int) -> Tensor:
    """``[N,C]`` in the shape that scales the channels of a map."""
    ones = [1] * (ndim - 2)
    return g.reshape(len(g), *((-1, *ones) if axis == 1 else (*ones, -1)))
