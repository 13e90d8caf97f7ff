"""Patches of a module's forward on a private copy: single function calls are replaced by calls of small modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from featureviz.network.surroundings import modes_kept
from featureviz.network.taps import hide_from_modes


@final
@dataclass(frozen=True)
class Call:
    """The k-th call of a function during one forward of the module at ``path``; calls inside its submodules count."""

    path: str | None  # None outside the network
    function: str
    k: int
    inplace: bool = False


@final
class Multiply(nn.Module):
    """``x * gate(g)``; ``gate`` is an identity at which g can be read and changed, or None."""

    def __init__(self, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x * (g if self.gate is None else self.gate(g))


@final
@dataclass(frozen=True)
class _Replacement:
    """Calls the module at ``path`` with the chosen ``arguments`` of a function, in place if the function was."""

    path: str
    module: nn.Module
    arguments: tuple[int, ...]
    inplace: bool

    def __call__(self, *args: Any) -> Tensor:
        copies = (args[0].clone(), *args[1:]) if self.inplace else args  # the backward pass needs the old values
        out = self.module(*(copies[i] for i in self.arguments))
        return args[0].copy_(out) if self.inplace else out


@final
@dataclass
class PatchedForward:
    """Replaces a module's forward: chosen calls of torch functions become calls of its new submodules."""

    forward: Callable[..., Any]
    replacements: dict[tuple[str, int], _Replacement] = field(default_factory=dict)
    added: list[tuple[nn.Module, str]] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with modes_kept(_PatchMode(self.replacements)):
            return self.forward(*args, **kwargs)


@final
class _PatchMode(TorchFunctionMode):
    """Counts calls as ``Tracer`` does. A replacement counts as the call it replaces, in all modules around it too."""

    def __init__(self, replacements: dict[tuple[str, int], _Replacement]) -> None:
        super().__init__()
        self.replacements, self.counts, self.paused = replacements, Counter[str](), 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.counts[name] += not self.paused
        replacement = None if self.paused else self.replacements.get((name, self.counts[name]))
        if replacement is None:
            return func(*args, **(kwargs or {}))
        outer = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, _PatchMode)]
        for mode in outer:
            mode.counts[name] += not mode.paused
            mode.paused += 1
        try:
            return replacement(*args)
        finally:
            for mode in outer:
                mode.paused -= 1


@final
@dataclass
class GatedForward:
    """Replaces the forward of a block whose gate g cannot be traced: ``y + x (gate(g) - g)``, ``g = <x,y>/<x,x>``.

    ``gate`` is an identity: the output and its gradients stay bitwise those of the block until ``gate`` is changed.
    """

    forward: Callable[..., Any]
    axis: int
    gate: nn.Module = field(default_factory=nn.Identity)
    added: list[tuple[nn.Module, str]] = field(default_factory=list)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.forward(x.clone(), *args, **kwargs)  # the block may overwrite its input
        with hide_from_modes():
            g = fit_scale(x, y, self.axis)
            return y + x * expand_channels(self.gate(g) - g, self.axis, x.ndim)


def patch_call(net: nn.Module, call: Call, name: str, child: nn.Module, arguments: tuple[int, ...] = (0,)) -> str:
    """Replace the call by ``child``, a new submodule of the module that calls; the path of the submodule in use.

    A call that is replaced already keeps its first replacement.
    """
    assert call.path is not None  # the tracer follows nothing outside the network
    module = net.get_submodule(call.path)
    if not isinstance(module.forward, PatchedForward):
        module.forward = PatchedForward(module.forward)
    replacements, key = module.forward.replacements, (call.function, call.k)
    if key not in replacements:
        path = _add_child(net, call.path, name, child, module.forward.added)
        replacements[key] = _Replacement(path, child, arguments, call.inplace)
    return replacements[key].path


def patch_output(net: nn.Module, path: str, axis: int) -> str:
    """Give the block at ``path`` a gate module that scales its output; the path of that gate."""
    module = net.get_submodule(path)
    module.forward = GatedForward(module.forward, axis)
    return _add_child(net, path, "gate", module.forward.gate, module.forward.added)


def remove_patches(net: nn.Module) -> None:
    """Undo every patch of ``net``."""
    for module in list(net.modules()):
        while isinstance(patch := vars(module).get("forward"), (PatchedForward, GatedForward)):
            module.forward = patch.forward
            for host, name in patch.added:
                delattr(host, name)


def _add_child(net: nn.Module, path: str, name: str, child: nn.Module, added: list[tuple[nn.Module, str]]) -> str:
    """Add ``child`` under the first free name of name, name_2, name_3 ...; its path."""
    host = net.get_submodule(path)
    if isinstance(host, fx.GraphModule):  # a copy of a GraphModule loses the modules that its graph does not name
        plain = type(type(host).__name__, (nn.Module,), {"forward": type(host).forward})
        host.__class__ = plain  # pyright: ignore[reportAttributeAccessIssue]
    # A container would run the new child with its others, so the child goes into the container's first module.
    while isinstance(host, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) and len(host):
        inner, host = next(host.named_children())
        path = f"{path}.{inner}".removeprefix(".")
    free, i = name, 1
    while hasattr(host, free):
        i += 1
        free = f"{name}_{i}"
    host.add_module(free, child)
    added.append((host, free))
    return f"{path}.{free}".removeprefix(".")


def fit_scale(x: Tensor, y: Tensor, axis: int) -> Tensor:
    """``[N,C]``: the factor by which each channel of x is scaled to give y, ``<x,y>/<x,x>``; 0 for an empty channel."""
    a, b = (t.movedim(axis, 1).flatten(2).double() for t in (x, y))
    return ((a * b).sum(2) / a.square().sum(2).clamp(min=1e-60)).to(x.dtype)


def expand_channels(g: Tensor, axis: int, ndim: int) -> Tensor:
    """``[N,C]`` in the shape that scales the channels of a map with ``ndim`` dimensions."""
    ones = [1] * (ndim - 2)
    return g.reshape(len(g), *((-1, *ones) if axis == 1 else (*ones, -1)))
