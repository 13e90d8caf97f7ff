"""The network as one render runs it: up to the layers that are wanted, prepared for being run many times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import final

from torch import Tensor

from featureviz.network.activations import Activations, Rows
from featureviz.network.execution.compiled import Program, compiled
from featureviz.network.execution.fused_copies import FusedCopies
from featureviz.network.execution.precision import Precision, autocast, is_half
from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel
from featureviz.network.redirect import is_redirected


@final
class Executor:
    """``executor(views, rows) -> Activations``: what ``model(views, layers, rows)`` gives, faster.

    It owns the copy that it runs, with the interventions that are in force when it is made. While there are any, or if
    the caller's network has hooks, the network runs as it is. Otherwise a fused copy of it runs.

    Args:
        model: the network.
        layers: what is read.
        size: height and width of the views ``[M,C,h,w]``, which are in [0,1].
        precision: ``"bfloat16"`` is an autocast; the layers from a squeeze to its gate stay in float32. Activations
            come out in float32.
        compile: use ``torch.compile``, once for each number of views; this takes tens of seconds on a CPU and is kept
            with the model. A network that cannot be compiled runs as it is, with a warning.

    >>> import featureviz as fv, torch
    >>> executor = Executor(fv.load("embedded"), ["features.3"], (64, 64))
    >>> executor(torch.rand(2, 3, 64, 64))["features.3"].shape
    torch.Size([2, 24, 16, 16])
    """

    def __init__(
        self,
        model: TappedModel,
        layers: Sequence[str],
        size: tuple[int, int],
        *,
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        self.model, self.layers, self.size, self.compile = model, tuple(layers), size, compile
        self.half = is_half(model, precision)
        self._taps = model.taps(self.layers, size)
        self._programs: dict[tuple[int, ...], Program | None] = {}
        if interventions_on(model.key) or model.running.hooked:
            self.fused, self.running = False, model.isolated()
        else:
            copies = model.cached(FusedCopies)
            prepared = copies.prepared(self.layers, self._taps, size, half=self.half)
            self.fused, self._programs = prepared.fused, prepared.programs
            self.running = prepared.running.twin()

    def __call__(self, views: Tensor, rows: Rows | None = None, *, redirect: bool = False) -> Activations:
        """The activations; with ``redirect`` gradients find a way through dead units (``redirected``)."""
        rows = rows or Rows.make(len(views), device=views.device)
        redirect = redirect or is_redirected(self.model.key)
        program = None if redirect or not self.compile else self._program(views)
        if program is not None:
            taken = dict(zip(self.layers, program(views), strict=True))
        else:
            with autocast(views) if self.half else nullcontext():
                taken = self.running.read(views, self._taps, self.layers, redirect=redirect)
        return Activations({name: a.float() for name, a in taken.items()}, rows, self.model.labels)

    def _program(self, views: Tensor) -> Program | None:
        """The network compiled for views of this shape; None where that is not possible."""
        key = tuple(views.shape)
        if key not in self._programs:
            self._programs[key] = compiled(self._run, views.detach(), self.model.name, half=self.half)
        return self._programs[key]

    def _run(self, x: Tensor) -> tuple[Tensor, ...]:
        taken = self.running.read(x, self._taps, self.layers)
        return tuple(taken[name] for name in self.layers)
