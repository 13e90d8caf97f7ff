"""The errors of this library. Each message says what was given, what was expected, and the remedy."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch


class FeaturevizError(Exception):
    """The base class of all errors of this library; the command line prints them and exits with status 2."""


class UnknownName(FeaturevizError, LookupError):
    """A layer, gate, label or model that does not exist; the message lists the nearest names that do."""


class SpecError(FeaturevizError, ValueError):
    """A spec that cannot be parsed; the message marks the position."""


class UnknownFunction(SpecError, UnknownName):
    """A spec calls a function or a class that ``parse`` was not given."""


class InvalidInput(FeaturevizError, ValueError):
    """A value outside its range, or a tensor of the wrong shape."""


class WrongType(InvalidInput, TypeError):
    """A value that cannot be combined with an objective."""


class ModelError(FeaturevizError, RuntimeError):
    """The network itself failed on an image; ``__cause__`` is its own error."""


class NonFinite(FeaturevizError, ArithmeticError):
    """A score or a gradient became NaN or infinite.

    ``step`` is the step, ``term`` the value that is not finite, and ``rendering`` a ``Rendering`` of the last finite
    images.
    """

    def __init__(self, message: str, step: int, term: str) -> None:
        super().__init__(message)
        self.step, self.term = step, term
        self.rendering: Any = None


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownName:
    """The error for a ``name`` that is not among the ``known`` ones; its message lists the nearest of them.

    >>> print(unknown("layer", "feature.3", ["features.3", "features.4", "classifier"]))
    no layer 'feature.3'; nearest: 'features.3', 'features.4'
    """
    names = list(known)
    name = name if isinstance(name, str) else reprlib.repr(name)  # whatever the caller gave for a name
    near = get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if name and name in n][:3]
    text = f"no {kind} {name!r}"
    if near:
        text += "; nearest: " + ", ".join(repr(n) for n in near)
    elif names:
        text += f"; there are {len(names)}, the first: " + ", ".join(repr(n) for n in names[:3])
    return UnknownName(f"{text}. {hint}" if hint else text)


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the memory of the device or of the machine is full."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
