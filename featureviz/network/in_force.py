"""Interventions in force: what changes a model's gates now, as values on a context variable.

The variable belongs to one thread. So an intervention never enters the render of another thread, and nothing has to be
removed from a network when the ``with`` block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.network.taps import hide_from_modes

Change = Callable[[Tensor], Tensor]  # of [M,C] gate values or logits, or of a spatial gate's [M,H*W]


@final
@dataclass(frozen=True)
class Intervention:
    """``change`` is done to the values of one block's gates, or to their logits, for some ``units`` or for all.

    ``model`` is the key of the model that it is for, ``gate`` the path of the module that computes the values, and
    ``text`` says in a recipe what is done. ``images`` is the number of images that it exchanges gates among: the rows
    that ``change`` gets must then be all views of so many images. Without it a row depends on itself alone.
    """

    model: str
    gate: str
    change: Change
    text: str
    units: Tensor | None = None  # [1,C], which channels are meant
    logits: bool = False
    images: int | None = None

    @property
    def across_batch(self) -> bool:
        """Whether an image's gates depend on the other images of the batch; such a batch is never split."""
        return self.images is not None

    def install(self, net: nn.Module) -> None:
        """Hook ``net``, which is thrown away with the hook."""
        module = net.get_submodule(self.gate)
        if self.logits:
            module.register_forward_pre_hook(partial(_before, self))
        else:
            module.register_forward_hook(partial(_after, self))

    def changed(self, tensor: Tensor) -> Tensor:
        """``[M,...]`` with the change done to the units that are meant."""
        flat = tensor.flatten(1)
        new = self.change(flat)
        if self.units is not None:
            new = torch.where(self.units.to(flat.device), new, flat)
        return new.view(tensor.shape)


_IN_FORCE: ContextVar[tuple[Intervention, ...]] = ContextVar("interventions", default=())


@contextmanager
def intervening(interventions: Sequence[Intervention]) -> Iterator[None]:
    """While it lasts these are in force, after those that are in force already."""
    before = _IN_FORCE.get()
    try:
        _IN_FORCE.set((*before, *interventions))
        yield
    finally:
        _IN_FORCE.set(before)


def interventions_on(model: str) -> tuple[Intervention, ...]:
    """Those in force for the model with this key, the earliest first."""
    return tuple(i for i in _IN_FORCE.get() if i.model == model)


def interventions_across_batch(model: str) -> bool:
    """Whether one in force for the model with this key makes images depend on each other."""
    return any(i.across_batch for i in interventions_on(model))


def check_batch(model: str, images: int) -> None:
    """Raise ``InvalidInput`` unless what is in force for this model suits a batch of so many images."""
    for intervention in interventions_on(model):
        if intervention.images not in (None, images):
            raise InvalidInput(
                f"{intervention.text} is in force, an order of {intervention.images} images; the batch has {images}:"
                " give one entry for each image"
            )


def _before(intervention: Intervention, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    with hide_from_modes():
        return (intervention.changed(args[0]), *args[1:])


def _after(intervention: Intervention, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    with hide_from_modes():
        return intervention.changed(output)
