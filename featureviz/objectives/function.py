"""Objectives from functions of one layer's activations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.naming import format_value, quote_layer
from featureviz.network.activations import Activations
from featureviz.objectives.algebra import Objective

ObjectiveFactory = Callable[..., Objective]  # of a layer's name and the arguments of a function under ``@objective``


@final
class Function(Objective):
    """A leaf that ``@objective`` creates: a pure function of one layer's activations."""

    def __init__(self, factory: Any, layer: str, args: tuple[Any, ...]) -> None:
        rest = "".join(f", {format_value(a)}" for a in args)
        super().__init__([layer], f"{factory.__name__}({quote_layer(layer)}{rest})")
        self.factory, self.args = factory, tuple(None if isinstance(a, Tensor) else a for a in args)
        for i, argument in enumerate(args):
            if isinstance(argument, Tensor):
                self.register_buffer(f"tensor{i}", argument.detach().clone())  # follows the objective to a device

    def forward(self, activations: Activations) -> Tensor:
        tensors = dict(self.named_buffers())
        args = [tensors.get(f"tensor{i}", argument) for i, argument in enumerate(self.args)]
        return self.factory.__wrapped__(activations.channels_first(self.layers[0]), *args)


def objective(function: Callable[..., Tensor]) -> ObjectiveFactory:
    """Turn a function of one layer's activations, ``[M,C,...]`` to ``[M]``, into an objective.

    The channels are on axis 1, whatever the network's layout is, and the positions follow.

    The result is called with a layer's name and then the function's other arguments.

    >>> @objective
    ... def sparse_channel(a, unit, penalty=0.1):
    ...     return a[:, unit].mean((1, 2)) - penalty * a.abs().mean((1, 2, 3))
    >>> sparse_channel("features.12", 17)
    sparse_channel(features.12, 17, 0.1)
    """
    signature = inspect.signature(function)

    @functools.wraps(function)  # its name too, by which it is pickled
    def factory(layer: str, *args: Any, **kwargs: Any) -> Objective:
        try:
            bound = signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"{function.__name__}{signature}: {error}; give the layer's name first") from None
        bound.apply_defaults()
        return Function(factory, layer, bound.args[1:])

    return factory
