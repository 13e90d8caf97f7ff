"""The network through ``torch.compile``: traced once, compiled, compared with what it was made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from featureviz.errors import out_of_memory
from featureviz.network.execution.precision import autocast

Program = Callable[[Tensor], tuple[Tensor, ...]]
TOLERANCE = {False: 1e-3, True: 5e-2}  # of the norm, in float32 and in bfloat16, where the same kernels run
# The largest error, relative to the norm, where kernels keep ten bits (TF32) or eight (bfloat16). On an H100 gradients
# of a MobileNetV3-Large had errors of 0.06 and 0.43. The trace is compared first, with the stricter TOLERANCE.
ROUNDING = 0.6


def compiled(run: Program, views: Tensor, name: str, *, half: bool) -> Program | None:
    """``run``, compiled for views of this shape; None, with a warning that says why, where that is not possible.

    A forward is traced first (``make_fx``). The trace has no hooks left and no exception that leaves the network
    early, which compilers dislike; it has also lost every ``detach`` and custom backward, so gradients are compared.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

    cast = autocast(views) if half else nullcontext()
    other = 1 - views  # not the traced image, so that a branch on the image's values is noticed
    with cast:
        expected = with_gradient(run, other)  # the network's own errors are raised here
    try:
        with cast, torch.no_grad():
            graph = make_fx(lambda x: run(x))(views)  # a bound method would count its object as an argument
        traced = with_gradient(graph, other)
        program: Any = torch.compile(graph, fullgraph=True, dynamic=False)
        given = with_gradient(program, other)
    except Exception as error:  # the compiler's own, of every kind
        if out_of_memory(error):
            raise
        warn_uncompiled(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return None
    rounding = TOLERANCE[half] if views.device.type == "cpu" else ROUNDING
    for how, found, limit in (("traced", traced, TOLERANCE[half]), ("compiled", given, rounding)):
        off = [float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(found, expected, strict=True)]
        if not all(o <= limit for o in off):
            warn_uncompiled(name, f"{how}, it gives other activations or gradients, by {max(off):.1e} of their norm")
            return None
    return program


@torch.enable_grad()
def with_gradient(run: Callable[[Tensor], Sequence[Tensor]], x: Tensor) -> list[Tensor]:
    """What ``run`` gives for x, and a gradient in x, where a ``detach`` that got lost would show."""
    x = x.detach().requires_grad_()
    given = run(x)
    energy = sum((a.float().square().sum() for a in given if a.requires_grad), x.new_zeros((), dtype=torch.float32))
    gradient = torch.autograd.grad(energy, x, allow_unused=True)[0] if energy.requires_grad else None
    return [a.detach().float() for a in (*given, torch.zeros_like(x) if gradient is None else gradient)]


def warn_uncompiled(name: str, why: str) -> None:
    """Warn that a network runs as it is, and why."""
    warnings.warn(f"{name} is not compiled and runs as it is: {why}", RuntimeWarning, stacklevel=2)
