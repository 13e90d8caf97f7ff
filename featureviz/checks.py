"""Numbers and words that a caller gives: checked where they come in, and made plain Python values.

Numbers of Python, NumPy and torch are taken alike. What is kept, compared or written as JSON is then always an ``int``
or a ``float``. A whole number has an integer type: 32.0 is none, as in ``range``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from numbers import Real
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor

from featureviz.errors import InvalidInput

K = TypeVar("K")

LARGEST = 2**63 - 1  # of int64
FLOAT32 = 3.4028234663852886e38  # the largest number of float32, in which everything is computed
SEEDS = (-(2**63), 2**64 - 1)  # what torch's generators take
STEPS, VIEWS = 10**6, 2**16  # the most steps of an ascent, and the most views of an image
MOST = 2**20  # entries of a list of numbers


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """``value`` as an ``int``; an error that names the argument unless it is a whole number from least to most.

    >>> whole("steps", np.int64(64)), whole("size", np.array(7), 1)
    (64, 7)
    """
    number = _to_plain(value)
    if not isinstance(number, int) or not least <= number <= most:
        limits = f"of at least {least}" if most == LARGEST else f"from {least} to {most}"
        raise InvalidInput(f"{name}={show(value)} was given; expected a whole number {limits}")
    return int(number)


def finite(name: str, value: Any, least: float = -FLOAT32, most: float = FLOAT32) -> float:
    """``value`` as a ``float``; an error that names the argument unless it is a number from least to most.

    >>> finite("lr", np.float32(0.5), 0, 1)
    0.5
    """
    number = _to_plain(value)
    if number is None or not least <= number <= most:  # not so for NaN
        low = "" if least == -FLOAT32 else f" of at least {least:g}"
        limits = low if most == FLOAT32 else f" from {least:g} to {most:g}"
        raise InvalidInput(f"{name}={show(value)} was given; expected a finite number{limits}")
    return float(number)


def wholes(name: str, values: Any, least: int = 0, most: int = LARGEST, *, count: int | None = None) -> list[int]:
    """Several whole numbers, or exactly ``count`` of them, as a list.

    >>> wholes("image_ids", np.arange(3))
    [0, 1, 2]
    """
    return [whole(f"{name}[{i}]", value, least, most) for i, value in enumerate(entries(name, values, count))]


def entries(name: str, values: Any, count: int | None = None, of: str = "numbers") -> list[Any]:
    """The entries of a list, tuple, range, set, array or tensor of one dimension, checked to be ``count``."""
    expected = f"{'a list of' if count is None else count} {of}"
    if isinstance(values, (np.ndarray, Tensor)):
        found = values.tolist() if values.ndim == 1 and _is_read(values) else None
    elif isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping)):
        found = list(islice(values, MOST + 1))
    else:
        found = None
    if found is None or len(found) > MOST or count not in (None, len(found)):
        raise InvalidInput(f"{name}={show(values)} was given; expected {expected}")
    return found


def choice(name: str, value: Any, choices: Collection[str]) -> str:
    """``value``, if it is one of the words.

    >>> choice("scale", "each", ["each", "shared"])
    'each'
    """
    if not isinstance(value, str) or value not in choices:
        words = [repr(word) for word in choices]
        raise InvalidInput(f"{name}={show(value)} was given; expected {', '.join(words[:-1])} or {words[-1]}")
    return value


def flag(name: str, value: Any) -> bool:
    """``value``, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name}={show(value)} was given; expected True or False")
    return bool(value)


def instance(name: str, value: Any, kind: type[K]) -> K:
    """``value``, if it is of this class."""
    if not isinstance(value, kind):
        raise InvalidInput(f"{name}={show(value)} was given; expected a {kind.__name__}")
    return value


def usable(device: torch.device | str | int | None) -> torch.device | None:
    """The device; an error if this machine has none of that name. None stands for whatever is in use."""
    try:
        return None if device is None else torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # torch's ways to say that there is none
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"device={show(device)} cannot be used: {reason}; give one such as 'cpu'") from error


def holds_numbers(value: object) -> TypeGuard[Tensor]:
    """Whether ``value`` is a tensor whose real numbers can be read one by one: not sparse, quantised or on ``meta``."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
    )


def show(value: Any) -> str:
    """``value`` for an error message: its ``repr`` if that is short, otherwise its type and shape."""
    try:
        text = repr(value)
    except Exception:  # of a class of the caller's, or an integer of thousands of digits
        text = ""
    if text and len(text) <= 80 and "\n" not in text:
        return text
    shape = f" of shape {list(value.shape)}" if isinstance(value, (np.ndarray, Tensor)) else ""
    return f"<{type(value).__name__}{shape}>"


def _to_plain(value: Any) -> int | float | None:
    """A number of Python, NumPy or torch as Python's; None for anything else, such as a truth value or an array."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        value = value.item() if value.ndim == 0 and _is_read(value) else None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return value if isinstance(value, (int, float)) else float(value)


def _is_read(value: np.generic | np.ndarray | Tensor) -> bool:
    return not isinstance(value, Tensor) or holds_numbers(value)
