"""Objectives from functions of one layer's activations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from featureviz.checks import LARGEST, finite, flag, instance, show, whole
from featureviz.errors import FeaturevizError, InvalidInput, out_of_memory
from featureviz.naming import ENTRY, write_call
from featureviz.network.activations import Activations
from featureviz.objectives.algebra import Objective

ObjectiveFactory = Callable[..., Objective]  # of a layer's name and the arguments of a function under ``@objective``
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "int": lambda name, value: whole(name, value, -LARGEST), "float": finite, "bool": flag,
    "str": lambda name, value: instance(name, value, str),
}  # fmt: skip


@final
class Function(Objective):
    """A leaf that ``@objective`` creates: a pure function of one layer's activations."""

    def __init__(self, factory: Any, layer: str, bound: inspect.BoundArguments) -> None:
        args, keywords = bound.args[1:], bound.kwargs
        super().__init__([layer], write_call(factory.__name__, [layer, *args], keywords))
        values = [*args, *keywords.values()]
        self.factory, self.keywords = factory, tuple(keywords)
        self.values = tuple(None if isinstance(value, Tensor) else value for value in values)
        for i, value in enumerate(values):
            if isinstance(value, Tensor):
                self.register_buffer(f"tensor{i}", value.detach().clone())  # follows the objective to a device

    def forward(self, activations: Activations) -> Tensor:
        tensors = dict(self.named_buffers())
        values = [tensors.get(f"tensor{i}", value) for i, value in enumerate(self.values)]
        count = len(values) - len(self.keywords)
        named = dict(zip(self.keywords, values[count:], strict=True))
        a = activations.channels_first(self.layers[0])
        try:
            return self.factory.__wrapped__(a, *values[:count], **named)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, FeaturevizError) or out_of_memory(error) or ENTRY not in vars(self.factory):
                raise  # a function of the caller's own shows its own error; an entry of the zoo explains it
            what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise InvalidInput(f"{self.spec} failed on {self.layers[0]!r}, {list(a.shape)}: {what}") from error


def objective(function: Callable[..., Tensor]) -> ObjectiveFactory:
    """Turn a function of one layer's activations, ``[M,C,...]`` to ``[M]``, into an objective.

    The channels are on axis 1, whatever the network's layout is, and the positions follow.

    The result is called with a layer's name and then the function's other arguments. Those that are annotated as
    ``int``, ``float``, ``bool`` or ``str`` are checked. Its spec holds all of them; ``parse`` reads back numbers,
    strings, None, lists, objectives and small tensors.

    >>> @objective
    ... def sparse_channel(a, unit, *, penalty=0.1):
    ...     return a[:, unit].mean((1, 2)) - penalty * a.abs().mean((1, 2, 3))
    >>> sparse_channel("features.12", 17)
    sparse_channel(features.12, 17, penalty=0.1)

    Raises:
        InvalidInput: ``function`` is not a function that has a name and parameters.
    """
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise InvalidInput(f"@objective got {show(function)}; expected a function of one layer's activations")
    signature, name = inspect.signature(function), function.__name__

    first, *others = signature.parameters.values()
    shown = signature.replace(
        parameters=[first.replace(name="layer", annotation="str"), *others], return_annotation=signature.empty
    )

    @functools.wraps(function)  # its name too, by which it is pickled
    def factory(layer: str, *args: Any, **kwargs: Any) -> Objective:
        if not isinstance(layer, str):
            raise InvalidInput(f"{name} got the layer {show(layer)}; expected its name in quotes as the first argument")
        try:
            bound = signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"{name}{shown}: {error}; give the layer's name first") from None
        bound.apply_defaults()
        _check_annotated(name, signature, bound)
        return Function(factory, layer, bound)

    vars(factory)["__signature__"] = shown
    return factory


def _check_annotated(name: str, signature: inspect.Signature, bound: inspect.BoundArguments) -> None:
    """Arguments that are annotated as ``int``, ``float``, ``bool`` or ``str`` must be such values."""
    for parameter in signature.parameters.values():
        kind, single = parameter.annotation, parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        check = _CHECKS.get(kind if isinstance(kind, str) else getattr(kind, "__name__", ""))
        if check is not None and single and parameter.name in bound.arguments:
            check(f"{name}: {parameter.name}", bound.arguments[parameter.name])
