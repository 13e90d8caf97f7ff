"""What ``copy.deepcopy`` would share or refuse: functions that hold modules, tensors with a history, locks.

A function made in a module's ``__init__`` keeps the module in its closure. ``deepcopy`` shares functions, so the copy
of the network would run modules of the original. Here such a function is made again, and its closure is copied.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, final

from torch import Tensor, nn

Memo = dict[int, Any]  # what deepcopy takes for the copy of an object, by the object's id

MOST = 100_000  # things that are looked at: a network may hold its data set
REGISTERED = ("_parameters", "_buffers", "_modules")
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, BuiltinFunctionType)


@final
class Rebound:
    """New functions in the place of those ``things`` that hold modules; ``fill`` gives them what they hold."""

    def __init__(self, things: Iterable[Any], memo: Memo) -> None:
        self._functions: list[tuple[FunctionType, FunctionType]] = []
        self._cells: dict[int, tuple[CellType, CellType]] = {}
        for thing in things:
            if isinstance(thing, FunctionType) and _holds_module(thing):
                memo[id(thing)] = self._empty(thing)

    def _empty(self, old: FunctionType) -> FunctionType:
        cells = old.__closure__ or ()
        twins = tuple(self._cells.setdefault(id(cell), (cell, CellType()))[1] for cell in cells)
        new = FunctionType(old.__code__, old.__globals__, old.__name__, None, twins or None)
        new.__dict__.update({k: v for k, v in vars(old).items() if k != "__wrapped__"})
        new.__qualname__, new.__module__, new.__doc__ = old.__qualname__, old.__module__, old.__doc__
        self._functions.append((old, new))
        return new

    def fill(self, memo: Memo) -> None:
        """Copy what the functions hold; ``memo`` is that of the copy of the network."""
        for old, new in self._cells.values():
            if _contents(old):
                new.cell_contents = _copied(old.cell_contents, memo)
        for old, new in self._functions:
            new.__defaults__ = tuple(_copied(thing, memo) for thing in old.__defaults__ or ()) or None
            new.__kwdefaults__ = {k: _copied(thing, memo) for k, thing in (old.__kwdefaults__ or {}).items()} or None


def reachable(net: nn.Module) -> list[Any]:
    """What the attributes of the network's modules hold, also inside containers, functions and plain objects."""
    modules = list(net.modules())
    return list(_walk([v for m in modules for v in _attributes(m)], {id(m) for m in modules}))


def share_what_refuses(net: nn.Module, memo: Memo) -> None:
    """Let the copy share the attributes that cannot be copied, such as locks, open files and generators."""
    for module in net.modules():
        for value in _attributes(module):
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:  # as above
                memo[id(value)] = value


def _copied(thing: Any, memo: Memo) -> Any:
    """A copy of what holds modules; other things are shared, such as a list in which a hook of the caller's records."""
    if not _holds_module(thing):
        return thing
    try:
        return copy.deepcopy(thing, memo)
    except Exception:  # an object of any kind, which may refuse to be copied in any way
        return thing


def _attributes(module: nn.Module) -> list[Any]:
    held = vars(module).items()
    return [v for name, v in held if name not in REGISTERED and not isinstance(v, _ATOMS) and not _is_empty(v)]


def _is_empty(thing: Any) -> bool:
    return isinstance(thing, (dict, list, tuple, set)) and not thing


def _walk(things: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    left = deque(things)
    while left and len(seen) < MOST:
        thing = left.popleft()
        if id(thing) not in seen and not isinstance(thing, _ATOMS):
            seen.add(id(thing))
            yield thing
            left.extend(_parts(thing))


def _parts(thing: Any) -> Iterable[Any]:
    """What an object holds itself."""
    if isinstance(thing, Mapping):
        return [*thing.values()]
    if isinstance(thing, (list, tuple, set, frozenset, deque)):
        return thing
    if isinstance(thing, FunctionType):
        cells = [c.cell_contents for c in thing.__closure__ or () if _contents(c)]
        return [*cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    return [] if isinstance(thing, Tensor) else list(getattr(thing, "__dict__", {}).values())


def _holds_module(thing: Any) -> bool:
    return any(isinstance(part, nn.Module) for part in _walk([thing], set()))


def _contents(cell: CellType) -> bool:
    """Whether the cell holds something: one that is not assigned yet raises when it is read."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
