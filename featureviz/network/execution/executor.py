"""The network as one render runs it: up to the layers that are wanted, prepared for being run many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from featureviz.checks import entries, flag, instance
from featureviz.image.base import height_width
from featureviz.network.activations import Activations, Rows
from featureviz.network.copies.redirect import is_redirected
from featureviz.network.diagnosis import explain_missing_gradient
from featureviz.network.execution.compiled import Program, compiled, warn_uncompiled
from featureviz.network.execution.fused_copies import FusedCopies
from featureviz.network.execution.precision import Precision, is_half, keep_float32
from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import modes_kept


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
        self.model, self.size, self.compile = tapped(model), height_width(size), flag("compile", compile)
        self.layers = tuple(entries("layers", layers, of="names of layers"))
        self.half = is_half(model, precision)
        model.require_numbers()
        self._taps = model.taps(self.layers, self.size)
        self._programs: dict[tuple[int, ...], Program | None] = {}
        if interventions_on(model.key) or model.running.hooked:
            self.fused, self.running = False, model.isolated()
        else:
            with modes_kept():
                copies = model.cached(FusedCopies)
                prepared = copies.prepared(self.layers, self._taps, self.size, half=self.half)
            self.fused, self._programs = prepared.fused, prepared.programs
            self.running = prepared.running.twin()
        self.running.autocasts = self.half
        if self.compile and (self.running.alone or self.running.gradients):
            why = (
                "its gradients are other ones than its own"
                if self.running.gradients
                else "its views go through one at a time, because it mixes them or looks at their values"
            )
            warn_uncompiled(model.name, why)
            self.compile = False
        if self.half and not self.fused:
            keep_float32(self.running.net, model.gates.values(), list(model.check()))

    def __call__(self, views: Tensor, rows: Rows | None = None, *, redirect: bool = False) -> Activations:
        """The activations; with ``redirect`` gradients find a way through dead units (``redirected``)."""
        rows = Rows.make(len(views), device=views.device) if rows is None else instance("rows", rows, Rows)
        redirect = redirect or is_redirected(self.model.key)
        program = None if redirect or not self.compile else self._program(views)
        if program is not None:
            taken = dict(zip(self.layers, program(views), strict=True))
        else:
            taken = self.running.read(views, self._taps, redirect=redirect)
        return self.model.collect({name: a.float() for name, a in taken.items()}, self._taps, rows)

    def explain_missing_gradient(self) -> str:
        """Where the network loses the gradient on the way from the image to ``layers``; "" if it is not lost there."""
        copy = self.model.isolated()
        x = self.model.noise_images(1, self.size)
        return explain_missing_gradient(copy.net, lambda x: copy.read(x, self._taps), x)

    def _program(self, views: Tensor) -> Program | None:
        """The network compiled for views of this shape; None where that is not possible."""
        key = tuple(views.shape)
        if key not in self._programs:
            self._programs[key] = compiled(self._run, views.detach(), self.model.name, half=self.half)
        return self._programs[key]

    def _run(self, x: Tensor) -> tuple[Tensor, ...]:
        taken = self.running.read(x, self._taps)
        return tuple(taken[name] for name in self.layers)
