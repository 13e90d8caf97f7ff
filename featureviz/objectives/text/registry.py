"""The zoo: objectives that a spec may call by name, wherever they come from.

``@zoo.entry`` marks a function or a class; nothing is registered by this. A module's entries are what it holds that is
marked. An installed package names its module under the entry point ``featureviz.objectives``, and a user gives a file.
So a name has one meaning in a process, whatever was imported first: two entries of one name are an error.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar, final

from featureviz.checks import instance, show
from featureviz.errors import FeaturevizError, InvalidInput
from featureviz.naming import CONSTANTS, ENTRY, KINDS
from featureviz.objectives.function import ObjectiveFactory

__all__ = ["Entry", "collect", "entry", "installed", "read_file"]

GROUP = "featureviz.objectives"
RESERVED = {*KINDS, *CONSTANTS, "tensor"}
Made = TypeVar("Made", bound=Callable[..., Any])


@final
@dataclass(frozen=True)
class Entry:
    """An objective of the zoo: its name in specs, what makes it, and an example of a spec that calls it.

    ``beside`` is a spec whose picture shows what the entry changes.
    """

    name: str
    make: ObjectiveFactory
    example: str
    beside: str = ""

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring, as one line."""
        return " ".join((inspect.getdoc(self.make) or "").partition("\n\n")[0].split())

    @property
    def signature(self) -> str:
        """How it is called: ``sparse_channel(layer: str, unit: int, penalty: float = 0.1)``."""
        return f"{self.name}{describe_signature(self.make)}"

    @property
    def source(self) -> str:
        """The module that defines it."""
        return self.make.__module__


def entry(example: str, *, beside: str = "") -> Callable[[Made], Made]:
    """Give an objective a name in specs: that of the function, or that of the class in snake case.

    Put it on a function under ``@objective``, on a class of objectives, or on a function that returns an objective.

    Args:
        example: a spec that calls it.
        beside: a spec without it, whose picture shows what it changes.

    >>> from featureviz import objective
    >>> @entry("contrast(features.6, 3)")
    ... @objective
    ... def contrast(a, unit):
    ...     '''A unit above the mean of its layer.'''
    ...     return a[:, unit].flatten(1).mean(1) - a.flatten(1).mean(1)
    >>> collect([contrast])["contrast"].summary
    'A unit above the mean of its layer.'

    Raises:
        InvalidInput: what is marked has no name that a spec can call, or no docstring.
    """
    instance("example", example, str)
    instance("beside", beside, str)

    def mark(made: Made) -> Made:
        own = getattr(made, "__name__", "")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", own).lower() if isinstance(made, type) else own
        if not callable(made) or not re.fullmatch(r"[a-z]\w*", name) or name in RESERVED:
            kinds = ", ".join(sorted(RESERVED))
            raise InvalidInput(
                f"@entry got {show(made)}; expected a function or a class of objectives whose name a spec can call:"
                f" lower-case letters, digits and _, and none of {kinds}"
            )
        if not inspect.getdoc(made):
            raise InvalidInput(f"@entry got {name}, which has no docstring; its first line is shown in the list")
        setattr(made, ENTRY, Entry(name, made, example, beside))
        return made  # pyright: ignore[reportReturnType]

    return mark


def collect(found: Iterable[Any], into: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
    """The entries among some objects by name, after those that are known already.

    Raises:
        InvalidInput: two different entries have one name.
    """
    entries = dict(into or {})
    for value in found:
        made = vars(value).get(ENTRY) if hasattr(value, "__dict__") else None
        if not isinstance(made, Entry):
            continue
        other = entries.setdefault(made.name, made)
        if other.make is not made.make:
            raise InvalidInput(
                f"two entries of the zoo are called {made.name!r}, in {other.source} and in {made.source}; rename one"
            )
    return dict(sorted(entries.items()))


@functools.cache
def installed() -> Mapping[str, Entry]:
    """The entries of all installed packages, by name; loaded when they are first asked for.

    Raises:
        InvalidInput: a package cannot be loaded, or two give one name.
    """
    entries = dict[str, Entry]()
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.value):
        try:
            module = point.load()
        except Exception as error:  # whatever a package raises when it is imported
            raise InvalidInput(
                f"the entry point {GROUP} = {point.value!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        entries = collect(_members(module), entries)
    return MappingProxyType(entries)


def read_file(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries of the installed packages and of a Python file, which is run.

    Raises:
        InvalidInput: the file cannot be read or run, has no entry, or has one whose name is taken.
    """
    file = Path(path)
    spec = importlib.util.spec_from_file_location(f"objectives of {file.name}", file)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{str(file)!r} was given for a file of objectives; expected a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pickles and data classes look for it
    try:
        spec.loader.exec_module(module)
    except FeaturevizError as error:
        raise InvalidInput(f"{file}: {error}") from error
    except Exception as error:  # whatever the file does
        place = getattr(error, "lineno", None) or _line_of(error, file)
        where = f"{file}, line {place}" if place else str(file)
        raise InvalidInput(f"{where}: {type(error).__name__}: {error}") from error
    own = collect(value for value in _members(module) if getattr(value, "__module__", "") == module.__name__)
    if not own:
        raise InvalidInput(f"{file} has no entries; put @fv.zoo.entry(EXAMPLE) on each objective")
    return collect((entry.make for entry in own.values()), installed())


def describe_signature(made: Callable[..., Any]) -> str:
    """The parameters of a function or a class, as they are called."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # of a function in C
        return "(...)"
    return str(signature.replace(return_annotation=inspect.Signature.empty)).replace("'", "")


def checked(name: str, make: ObjectiveFactory) -> ObjectiveFactory:
    """``make``, for which wrong arguments are an error that tells the right ones."""

    def call(*args: Any, **keywords: Any) -> Any:
        usage = f"it is called as {name}{describe_signature(make)}"
        try:
            signature = inspect.signature(make)
        except (TypeError, ValueError):  # of a function in C
            return make(*args, **keywords)
        try:
            signature.bind(*args, **keywords)
        except TypeError as error:
            raise InvalidInput(f"{name}: {error}; {usage}") from None
        try:
            return make(*args, **keywords)
        except InvalidInput as error:
            raise InvalidInput(f"{error}; {usage}") from error

    call.__name__ = name
    return call


def _members(module: ModuleType) -> list[Any]:
    return list(vars(module).values())


def _line_of(error: BaseException, file: Path) -> int | None:
    """The line of ``file`` at which it failed."""
    lines, trace = list[int](), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else None
