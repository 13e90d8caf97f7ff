"""Finds traffic between host and device without a device: what would stall a GPU or break a captured graph.

A ``TorchFunctionMode`` sees Python-level conversions, a ``TorchDispatchMode`` the ops that read a value back.
"""

from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CALLS = {
    torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu,
    torch.Tensor.numpy, torch.Tensor.__bool__, torch.Tensor.__float__, torch.Tensor.__int__,
}  # fmt: skip
OPS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique")


class _Functions(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CALLS:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


class _Ops(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(op in str(func) for op in OPS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class HostTraffic:
    """``with HostTraffic() as found:`` collects the names of what went through the host."""

    def __enter__(self) -> list[str]:
        self.found: list[str] = []
        self.modes = (_Functions(self.found), _Ops(self.found))
        for mode in self.modes:
            mode.__enter__()
        return self.found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(kind, error, trace)
