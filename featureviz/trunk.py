"""A network up to the layers that are wanted, prepared for being run many times."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, final

import torch
from torch import Tensor

from featureviz.activations import Activations, Rows
from featureviz.errors import InvalidInput, out_of_memory
from featureviz.gradients import redirected
from featureviz.lean import with_slope
from featureviz.model import TappedModel

Precision = Literal["float32", "bfloat16"]
Program = Callable[[Tensor], tuple[Tensor, ...]]
# How far gradients may be off, of their norm, where other kernels keep ten bits (TF32) or eight (bfloat16): on an H100
# those of a MobileNetV3-Large were off by 0.06 and 0.43. That the same operations run is checked before, more closely.
ROUNDING = 0.6


@final
class Trunk:
    """``trunk(views, rows) -> Activations``: what ``model(views, layers, rows)`` gives, sooner.

    Args:
        model: the network. While something hooks it, as an intervention does, it runs as it is.
        layers: what is wanted of it.
        precision: ``"bfloat16"`` runs convolutions and matrix products in bfloat16 (autocast), but what makes a gate
            of its squeeze in float32; activations come out in float32 either way.
        compile: hand the network to ``torch.compile``, once for each shape of views (tens of seconds on a CPU, kept
            with the model). A network that cannot be compiled runs as it is, with a warning.

    Views are ``[M,C,h,w]`` in [0,1], as for the model.

    >>> import featureviz as fv
    >>> trunk = Trunk(fv.load("embedded"), ["features.3"])
    >>> trunk(torch.rand(2, 3, 64, 64))["features.3"].shape
    torch.Size([2, 24, 16, 16])
    """

    def __init__(
        self, model: TappedModel, layers: Sequence[str], *, precision: Precision = "float32", compile: bool = False
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise InvalidInput(f"precision={precision!r} was given; expected 'float32' or 'bfloat16'")
        self.model, self.layers, self.compile = model, tuple(layers), compile
        dtype = next((p.dtype for p in model.net.parameters()), torch.float32)
        self.half = precision == "bfloat16" and dtype == torch.float32  # other networks have a precision of their own
        self._enter = model.enter
        model.notice()

    def network(self, size: tuple[int, int]) -> TappedModel:
        """What runs on views of ``size``: the lean copy of the model, or the model itself while something hooks it."""
        return self.model.lean(self.layers, size, half=self.half)

    def __call__(self, views: Tensor, rows: Rows | None = None, *, redirect: bool = False) -> Activations:
        """The activations; with ``redirect`` gradients find a way through dead units (:mod:`featureviz.gradients`)."""
        network = self.network((views.shape[-2], views.shape[-1]))
        rows = rows or Rows.of(len(views), device=views.device)
        ordinary = not redirect and not network.hooked and network.enter is self._enter
        program = self._program(network, views) if self.compile and ordinary else None
        if program is not None:
            taken = dict(zip(self.layers, program(views), strict=True))
        else:
            with self._autocast(views), redirected(network) if redirect else nullcontext():
                taken = network(views, self.layers, rows)
        return Activations({name: a.float() for name, a in taken.items()}, rows, network.labels)

    def _autocast(self, views: Tensor) -> torch.autocast:
        return torch.autocast(views.device.type, torch.bfloat16, enabled=self.half)

    def _program(self, network: TappedModel, views: Tensor) -> Program | None:
        key = (self.layers, tuple(views.shape), self.half)
        if key not in network.programs:
            network.programs[key] = self._compiled(network, views.detach())
        return network.programs[key]

    def _compiled(self, network: TappedModel, views: Tensor) -> Program | None:
        """The network's operations for views of this shape, written down by running it once, then compiled.

        What is written down has no hooks left and no exception that leaves the network early, which compilers dislike.
        """
        from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

        def run(x: Tensor) -> tuple[Tensor, ...]:
            taken = network(x, self.layers)
            return tuple(taken[name] for name in self.layers)

        other = 1 - views  # not what is written down, so that a decision by its numbers would show
        with self._autocast(views):
            expected = with_slope(run, other)  # the network's own errors are raised here
        try:
            with self._autocast(views), torch.no_grad():
                graph = make_fx(run)(views)
            written = with_slope(graph, other)
            program: Any = torch.compile(graph, fullgraph=True, dynamic=False)
            given = with_slope(program, other)
        except Exception as error:  # the compiler's own, of every kind
            if out_of_memory(error):
                raise
            self._tell(network, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return None
        tolerance = 5e-2 if self.half else 1e-3
        rounding = tolerance if views.device.type == "cpu" else ROUNDING
        for how, found, limit in (("written down", written, tolerance), ("compiled", given, rounding)):
            off = [float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(found, expected, strict=True)]
            if not all(o <= limit for o in off):
                self._tell(network, f"{how}, it gives other activations or gradients, by {max(off):.1e} of their norm")
                return None
        return program

    def _tell(self, network: TappedModel, why: str) -> None:
        warnings.warn(f"{network.name} is not compiled and runs as it is: {why}", RuntimeWarning, stacklevel=2)
