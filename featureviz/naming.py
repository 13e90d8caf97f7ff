"""Names, values and units as text: how a spec writes them, so that it can be parsed again."""

from __future__ import annotations

import hashlib
import io
import json
import numbers
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from featureviz.checks import finite, show, whole
from featureviz.errors import InvalidInput

T = TypeVar("T")
Units = int | Sequence[int]  # one index, or one index for each image

KINDS = (  # reserved in specs
    "gate", "gatevalue", "gated", "pregate", "bottleneck", "logit", "direction", "deepdream", "sae", "head",
)  # fmt: skip
ENTRY = "__zoo_entry__"  # where ``@zoo.entry`` keeps what it knows of a function or a class
CONSTANTS = {"True": True, "False": False, "None": None}
WORD = r"[\w.]++"
NUMBER = r"(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+(?![\w.])"

MOST_UNITS, MOST_INDEX = 1 << 16, (1 << 31) - 1
SHORTEST_RANGE = 5  # units in a row that are written as a range
SMALL_TENSOR = 64  # one of more numbers is written as its type, its shape and a hash


def quote(text: str) -> str:
    """The text in double quotes, with the escapes of JSON."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def quote_layer(layer: str) -> str:
    r"""The layer's name for a spec: in quotes if the parser would otherwise read it as something else.

    >>> print(quote_layer("features.12"), quote_layer("conv-1"), quote_layer("gate"), quote_layer('3"x3'))
    features.12 "conv-1" "gate" "3\"x3"
    """
    if not isinstance(layer, str):
        raise InvalidInput(f"{show(layer)} was given as a layer; expected its name, as `fv.layers` lists it")
    return layer if re.fullmatch(WORD, layer) and layer not in KINDS else quote(layer)


def shorten(text: str, most: int) -> str:
    """The text, or its beginning and its end if it has more than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - most // 3]}...{text[-most // 3 :]}"


def format_number(value: float) -> str:
    """The shortest text that gives the same number again."""
    return repr(value).removesuffix(".0")


def parse_units(unit: Units, owner: str) -> tuple[tuple[int, ...], str]:
    """The indices as Python integers (numpy and torch integers are accepted), and their text for a spec.

    ``owner`` is the name that an error message gives to whoever received ``unit``.

    >>> parse_units([0, 1, 2, 3, 4, 5, 9], "Channel")
    ((0, 1, 2, 3, 4, 5, 9), '[0:6, 9]')
    """
    given, what = as_list(unit), f"{owner}: unit"
    units = tuple(whole(what, u, most=MOST_INDEX) for u in (given if given is not None else [unit]))
    if not units:
        raise InvalidInput(f"{what} = {show(unit)} was given; expected an index from 0, or a list of them")
    check_count(len(units))
    return units, write_units(units) if given is not None else str(units[0])


def as_list(values: Any) -> list[Any] | None:
    """The entries of a list, an array or a range, one too many at most; None for a single value."""
    if isinstance(values, (str, bytes)) or getattr(values, "ndim", 1) == 0 or not isinstance(values, Iterable):
        return None
    return list(islice(values, MOST_UNITS + 1))


def expand_range(start: int, stop: int, step: int = 1) -> range:
    """The units of ``start:stop:step``, which must be some and not too many."""
    if step < 1 or stop <= start:
        raise InvalidInput(f"[{start}:{stop}:{step}] holds no unit; expected [FIRST:END] or [FIRST:END:STEP]")
    check_count((stop - start + step - 1) // step)
    return range(start, stop, step)


def check_count(count: int) -> None:
    """An error if these are more units than one objective may have."""
    if count > MOST_UNITS:
        raise InvalidInput(f"{count:,} units were given, or more; expected at most {MOST_UNITS:,}, one for each image")


def write_units(units: Sequence[int]) -> str:
    """The list of units for a spec, in which five in a row or more are a range."""
    parts, i = list[str](), 0
    while i < len(units):
        j = _end_of_run(units, i)
        if j - i < SHORTEST_RANGE:
            parts.append(str(units[i]))
            i += 1
            continue
        step = units[i + 1] - units[i]
        parts.append(f"{units[i]}:{units[j - 1] + 1}" + (f":{step}" if step > 1 else ""))
        i = j
    return f"[{', '.join(parts)}]"


def _end_of_run(units: Sequence[int], i: int) -> int:
    """Behind the last of the units from i on that rise by equal steps."""
    j = i + 1
    while j < len(units) and units[j] - units[j - 1] == units[i + 1] - units[i] > 0:
        j += 1
    return j


def select_entries(entries: Sequence[T], images: Sequence[int]) -> T | list[T]:
    """The entries of the given images: a list, or the entry itself if there is one image."""
    selected = [entries[i] for i in check_images(images, len(entries))]
    return selected[0] if len(selected) == 1 else selected


def check_images(images: Sequence[int], count: int) -> list[int]:
    """The numbers of the images: an error unless there are some, each from 0 to ``count - 1``."""
    numbers = [whole("image", i, most=MOST_INDEX) for i in as_list(images) or []]
    if not numbers or max(numbers) >= count:
        raise InvalidInput(f"images {show(images)} were asked for; expected a list of numbers from 0 to {count - 1}")
    return numbers


def call_name(made: Any) -> str:
    """The name by which a spec calls a function or a class: that of its entry in the zoo, or its own."""
    return getattr(getattr(made, "__dict__", {}).get(ENTRY), "name", "") or getattr(made, "__name__", "")


def write_call(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """A call for a spec, with all of its arguments; a first one that is a name needs no quotes.

    >>> write_call("own", ["features.12", 0.5, "a b"], {"mode": None})
    'own(features.12, 0.5, "a b", mode=None)'
    """
    try:
        texts = [*map(write_value, args), *(f"{key}={write_value(value)}" for key, value in keywords.items())]
    except RecursionError:
        raise InvalidInput(f"{name} got an argument that holds itself, or lists that are nested too deep") from None
    first = args[0] if args else None
    if isinstance(first, str) and first not in CONSTANTS and not re.fullmatch(NUMBER, first):
        texts[0] = quote_layer(first)
    return f"{name}({', '.join(texts)})"


@singledispatch
def write_value(value: Any) -> str:
    """The text that ``parse`` reads as this value.

    Numbers, strings, None, lists and small tensors read back. Any other value is ``<its type and a hash>``, which tells
    it from others of its kind and does not read back.

    >>> write_value([1, True, torch.tensor([0.5, 2])])
    '[1, True, tensor([0.5, 2.0])]'
    """
    name = getattr(value, "__name__", "")
    what = f"{type(value).__name__} {name}".strip()
    buffer = io.BytesIO()
    try:
        _Hasher(buffer, protocol=4).dump(value)
    except Exception:  # a class may raise anything: there is no hash then
        return f"<{what}>"
    return f"<{what} {_hash(buffer.getvalue())}>"


@write_value.register(type(None))
@write_value.register(bool)
@write_value.register(np.bool_)
def _(value: Any) -> str:
    return str(value)


@write_value.register
def _(value: str) -> str:
    return quote(value)


@write_value.register
def _(value: numbers.Integral) -> str:
    finite("a number", value)  # that has not too many digits
    return str(int(value))


@write_value.register
def _(value: numbers.Real) -> str:
    return repr(finite("a number", value))


@write_value.register
def _(value: list | tuple) -> str:
    return f"[{', '.join(map(write_value, value))}]"


@write_value.register
def _(value: np.ndarray) -> str:
    return write_value(value.tolist() if 0 < value.size <= SMALL_TENSOR else value.tobytes())


@write_value.register
def _(value: Tensor) -> str:
    if value.ndim == 0:
        return write_value(value.item())
    plain = value.dtype in (torch.float32, torch.int64, torch.bool) and value.layout == torch.strided
    if plain and value.numel() <= SMALL_TENSOR and not value.is_meta and bool(torch.isfinite(value).all()):
        return f"tensor({_write_numbers(value.detach().cpu().numpy())})"
    what = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return f"<{what}>" if value.is_meta else f"<{what} {_hash(_to_bytes(value))}>"


def _write_numbers(array: np.ndarray) -> str:
    """Nested lists; numpy prints the shortest text that gives the same float32 again."""
    return f"[{', '.join(map(_write_numbers, array))}]" if array.ndim else str(array)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=4).hexdigest()


def _to_bytes(value: Tensor) -> bytes:
    return value.detach().cpu().to_dense().contiguous().flatten().view(torch.uint8).numpy().tobytes()


class _Hasher(pickle.Pickler):
    """A pickler whose bytes do not depend on where the tensors lie in memory."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return bytes, (_to_bytes(value), str(value.dtype), tuple(value.shape))
        return NotImplemented
