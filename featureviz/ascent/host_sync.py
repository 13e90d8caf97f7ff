"""Finds traffic between host and device, which stalls a GPU and breaks a captured graph. It needs no GPU to do so.

A ``TorchFunctionMode`` sees conversions in Python; a ``TorchDispatchMode`` sees operators that read a value back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from featureviz.network.surroundings import modes_kept

CALLS = {
    torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor, Tensor.item, Tensor.tolist,
    Tensor.cpu, Tensor.numpy, Tensor.__array__, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__,
}  # fmt: skip
OPS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "aten.equal.", "_linalg_check_errors")


@contextmanager
def host_traffic() -> Iterator[list[str]]:
    """Collect the names of the calls that go through the host inside the block.

    It does not see random numbers of Python or numpy, which need no traffic, nor the inside of a compiled program.

    >>> with host_traffic() as found:
    ...     if torch.zeros(3).sum() > 0:
    ...         pass
    >>> found
    ['__bool__', 'aten._local_scalar_dense.default']
    """
    found: list[str] = []
    with modes_kept(_Functions(found)), _Ops(found):
        yield found


@final
class _Functions(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CALLS:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


@final
class _Ops(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(op in str(func) for op in OPS) or _masks(func, args) or _crosses(func, args, result):
            self.found.append(str(func))
        return result


def _masks(func: Any, args: Any) -> bool:
    """Whether it selects entries by a mask, which must be counted; filling them with one number needs no count."""
    name = str(func)
    if not name.startswith(("aten.index.", "aten.index_put", "aten._index_put")):
        return False
    many = name.startswith("aten.index.") or args[2].numel() > 1
    return many and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _crosses(func: Any, args: Any, result: Any) -> bool:
    """Whether it copies between host and device."""
    if not str(func).startswith(("aten._to_copy", "aten.copy_")):
        return False
    source = args[1] if "copy_" in str(func) and "_to_copy" not in str(func) else args[0]
    return source.device.type != result.device.type and "cpu" in (source.device.type, result.device.type)
