"""The caller's surroundings: torch's modes, Ctrl-C, the terminal. They must not leak into a render, and a render must
not change them, even where Ctrl-C ends it between two instructions.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import wraps
from types import FrameType
from typing import Any, TypeVar, final

import torch
from torch._C import (
    _len_torch_dispatch_stack,
    _len_torch_function_stack,
    _pop_torch_dispatch_stack,
    _pop_torch_function_stack,
    _push_on_torch_function_stack,
)
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from tqdm import tqdm

F = TypeVar("F", bound=Callable[..., Any])
_AUTOCAST = ("cpu", "cuda")


@final
class modes_kept:
    """After the block torch's modes of this thread are those from before it; inside it ``modes`` are in force too.

    A ``with`` block of a mode ends with an instruction of its own, and torch puts a mode aside while the mode works.
    Ctrl-C may hit those very instructions. Then the mode would stay for good, or come back when the frames that were
    left are freed. This block frees them, and puts the stack of function modes back as it was.
    """

    def __init__(self, *modes: TorchFunctionMode) -> None:
        self.modes = modes

    def __enter__(self) -> None:
        self.functions, self.dispatch = _get_current_function_mode_stack(), _len_torch_dispatch_stack()
        self.gradients = torch.is_grad_enabled()
        self.autocast = {d: (torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _AUTOCAST}
        for mode in self.modes:
            _push_on_torch_function_stack(mode)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and not isinstance(error, Exception):
            _free_frames(error)
        while _len_torch_function_stack():
            _pop_torch_function_stack()
        for mode in self.functions:
            _push_on_torch_function_stack(mode)
        while _len_torch_dispatch_stack() > self.dispatch:
            _pop_torch_dispatch_stack(None)
        torch._C._set_grad_enabled(self.gradients)
        for device, (enabled, dtype) in self.autocast.items():
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)


def _free_frames(error: BaseException) -> None:
    """Free what the frames hold that an interrupt has left, those of the errors that it met on its way too."""
    met, left = set[int](), [error]
    while left:
        one = left.pop()
        if id(one) not in met:
            met.add(id(one))
            traceback.clear_frames(one.__traceback__)
            left += [other for other in (one.__context__, one.__cause__) if other is not None]


@final
class handler_kept:
    """After the block Ctrl-C is handled as before it, even where another Ctrl-C ended ``postponed_interrupts``."""

    def __enter__(self) -> None:
        self.handler = signal.getsignal(signal.SIGINT)

    def __exit__(self, *_: object) -> None:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is not self.handler:
            signal.signal(signal.SIGINT, self.handler)


def own_surroundings(function: F) -> F:
    """Let ``function`` run with gradients, without the caller's autocast and inference mode.

    Context variables and modes that it sets are gone when it ends, however it ends.
    """

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with handler_kept(), modes_kept(), no_inference(), torch.enable_grad(), no_autocast("cpu"), no_autocast("cuda"):
            return copy_context().run(function, *args, **kwargs)

    return inside  # pyright: ignore[reportReturnType]


def no_inference() -> AbstractContextManager[Any]:
    """Inside the block the caller's inference mode is off: tensors made in it could not be differentiated through.

    When torch's guard is freed, it puts back the modes from before it. After Ctrl-C that is later than the block's end,
    when other modes are in force. So there is a guard only where one is needed.
    """
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def no_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Inside the block the caller's autocast is off for this kind of device."""
    return torch.autocast(device_type, enabled=False) if torch.is_autocast_enabled(device_type) else nullcontext()


def progress_bar(shown: bool, **options: Any) -> AbstractContextManager[tqdm | None]:
    """A bar of tqdm, or None. One that is not shown is not made: all bars of a process share a lock, and Ctrl-C while
    it is held would stop every later bar for good.
    """
    return tqdm(**options) if shown else nullcontext()


@contextmanager
def postponed_interrupts() -> Iterator[Callable[[], None]]:
    """Inside the block Ctrl-C waits for the next call of the function that the block gets; a second Ctrl-C does not.

    So a loop that calls it between its steps is never left in the middle of one. This holds in the main thread, and
    where nobody else handles Ctrl-C.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    def look() -> None:
        if waiting:
            waiting.clear()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    look()
