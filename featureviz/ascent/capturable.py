"""Why a step cannot be a CUDA graph, and how an optimizer is made ready for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from featureviz.ascent.ascent import Ascent
from featureviz.ascent.host_sync import host_traffic


def why_not(ascent: Ascent) -> list[str]:
    """The reasons why ``ascent.step()`` cannot be captured; an empty list means that it can be tried.

    Reasons are: no CUDA device; a transform that is not ``capturable``; an optimizer of torch that needs the host; any
    part of the step that sends numbers through the host (``host_traffic``). Optimizers that are not part of torch are
    not checked. The ascent does not change: its optimizer makes no step.

    >>> import featureviz as fv
    >>> ascent = fv.Ascent(fv.load("embedded"), fv.Channel("features.3", 1), fv.FourierImage(1, 64))
    >>> why_not(ascent)
    ['the model is on cpu, and graphs need a CUDA device']
    """
    device, reasons = ascent.model.device, list[str]()
    if device.type != "cuda":
        reasons.append(f"the model is on {device}, and graphs need a CUDA device")
    drawn = [t for t in ascent.pipeline.transforms if not t.capturable]
    reasons += [f"the transform {t!r} needs the host" for t in drawn]
    reasons += _optimizer(ascent.optimizer)
    with _ordinary(ascent):
        ascent.score_and_gradient()  # the first call learns layers and shapes, which needs the host once
        with host_traffic() as found:
            ascent.score_and_gradient()
        if found:
            reasons += [r for r in _located(ascent) if not (drawn and r.startswith("a transform"))]
    return reasons


def set_up(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move the numbers of the optimizer to the device, the learning rate too, so that a replay reads later values."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
        if not isinstance(group["lr"], Tensor) or group["lr"].device != device:
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
    for state in optimizer.state.values():
        state.update({name: value.to(device) for name, value in state.items() if isinstance(value, Tensor)})


def _optimizer(optimizer: torch.optim.Optimizer) -> list[str]:
    name = type(optimizer).__name__
    if not type(optimizer).__module__.startswith("torch.optim"):
        return []
    if isinstance(optimizer, torch.optim.SGD):
        fused = all(group["fused"] for group in optimizer.param_groups)
        return [] if fused else [f"the optimizer {name} reads its learning rate on the host; make it with fused=True"]
    able = all("capturable" in group for group in optimizer.param_groups)
    return [] if able else [f"the optimizer {name} needs the host; Adam, AdamW, NAdam, RAdam and RMSprop do not"]


@contextmanager
def _ordinary(ascent: Ascent) -> Iterator[None]:
    """Inside the block, steps are neither redirected nor compiled: on a CPU neither of these can be checked."""
    done, compiled = ascent.steps_done, ascent.executor.compile
    ascent.steps_done, ascent.executor.compile = max(done, ascent.runtime.redirect), False
    try:
        yield
    finally:
        ascent.steps_done, ascent.executor.compile = done, compiled


def _located(ascent: Ascent) -> list[str]:
    """The parts of the step that send numbers through the host."""
    a, part, reasons = ascent, ascent.microbatches[0], list[str]()

    def watched(who: str, function: Callable[..., Any], *args: Any) -> Any:
        with host_traffic() as found:
            result = function(*args)
        if found:
            reasons.append(f"{who} goes through the host ({', '.join(dict.fromkeys(found))})")
        return result

    with torch.enable_grad():
        images = watched(f"the image {type(a.image).__name__}", a.image)
        seen, rng = images.detach()[part.images].requires_grad_(), part.rng.restart()
        views = watched("a transform", a.pipeline, seen, rng, a.size)
        activations = watched(f"the network {a.model.name}", a.executor, views, part.rows)
        activations = activations.with_alpha(seen[:, -1:]) if a.image.alpha else activations
        for leaf in a.objective.leaves():
            watched(f"the objective {leaf.spec}", leaf, activations)
    return reasons or ["a backward pass goes through the host"]
