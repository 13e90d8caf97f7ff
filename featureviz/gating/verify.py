"""Proposed sites, the check that a site is a gate, and the description of its bottleneck and kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.taps import INPUT, OUTPUT, Tap, hide_from_modes, hooked

TOLERANCE = 1e-5  # relative, float32: how closely a site must recompute its block's output

_WEIGHTED = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _ConvNd, nn.Linear)


def propose_site(
    net: nn.Module, name: str, block: str, gate: str, channels: int, found: str, *, axis: int = 1, spatial: bool = False
) -> GateSite:
    """A site, not verified yet: the module at ``gate`` turns logits into values, the one at ``block`` turns x into y.

    ``axis`` is where the map's channels lie.
    """
    return GateSite(
        name, "", 1 if spatial else channels, net.get_submodule(gate), gate, Tap(gate, INPUT, not spatial),
        Tap(gate, OUTPUT, not spatial), Tap(block, INPUT, axis=axis), Tap(block, OUTPUT, axis=axis), found, spatial,
    )  # fmt: skip


def make_test_images(model: TappedModel) -> Tensor:
    """``[2,C,H,W]`` of noise; the two differ in scale, colour and contrast, so that every gate differs between them."""
    noise = model.noise_images(n := 2)
    height, width = noise.shape[-2:]
    images = []
    for i in range(n):
        coarse = nn.functional.interpolate(noise[i : i + 1, :, :: 2 ** (i + 1), :: 2 ** (i + 1)], (height, width))
        tint = noise[i, :, :1, :1]
        images.append(tint + (coarse - tint) * (i + 1) / n)
    return torch.cat(images)


@contextmanager
def replace_zero_weights(net: nn.Module) -> Iterator[None]:
    """Inside the block, no norm, convolution or linear layer of ``net`` has weights that are all 0.

    Untrained residual branches often end in such a layer. Their output is 0 whatever the gate is, so a gate could not
    be recognised there. ``net`` is a private copy; its parameters are replaced and not written to.
    """
    zero = [
        (module, weight)
        for module in net.modules()
        if isinstance(module, _WEIGHTED) and (weight := module._parameters.get("weight")) is not None
        if not bool(weight.any())
    ]
    try:
        for module, weight in zero:
            mean = torch.full_like(weight, 1 / prod(weight.shape[1:]))  # outputs keep the range of the inputs
            module.register_parameter("weight", nn.Parameter(mean, requires_grad=False))
        yield
    finally:
        for module, weight in zero:
            module.register_parameter("weight", weight)


@contextmanager
def hook_modules(
    net: nn.Module, after: Callable[..., None], before: Callable[..., None] | None = None
) -> Iterator[None]:
    """Inside the block, every call of a module of ``net`` calls ``before`` and ``after`` too.

    These are ``before(path, module, args)`` and ``after(path, module, args, kwargs, output)``.
    """
    with ExitStack() as stack:
        for path, module in net.named_modules():
            if before is not None:
                stack.enter_context(module.register_forward_pre_hook(partial(before, path)))
            stack.enter_context(module.register_forward_hook(partial(after, path), with_kwargs=True))
        yield


def may_squash(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether the module may turn logits x into gate values y: the sizes are equal and it has no parameters."""
    return x.numel() == y.numel() and next(module.parameters(), None) is None


def read_taps(model: TappedModel, images: Tensor, taps: Mapping[str, Tap]) -> dict[str, Tensor]:
    """The tensor at each tap that runs; for a module that runs several times, that of its last run."""
    tensors: dict[str, Tensor] = {}

    def take(name: str, tensor: Any) -> None:
        if isinstance(tensor, Tensor):
            tensors[name] = taps[name].reshape(tensor).clone()

    if taps:
        with hooked(model.net, taps, take):
            model.rerun(images)
    return tensors


@torch.no_grad()
def verify_sites(model: TappedModel, sites: Sequence[GateSite], images: Tensor) -> dict[str, GateSite]:
    """By name, the sites whose block returns ``x * gate(z)``, with the relative error.

    The product is computed in the network's own precision, so a network of half precision differs by one rounding.
    """
    taps = {f"{k}{i}": getattr(site, k) for i, site in enumerate(sites) for k in ("x", "y", "logits")}
    tensors = read_taps(model, images, taps)
    calls, verified = model.check(), {}
    for i, site in enumerate(sites):
        x, y, z = (tensors.get(f"{k}{i}") for k in ("x", "y", "logits"))
        if x is None or y is None or z is None or site.gate not in calls:
            continue  # not computed for every input
        try:
            g = site.broadcast(site.nonlinearity(z), x.ndim).to(x.dtype)
        except Exception:  # the network's own module may raise anything; a gate that cannot be called is no site
            continue
        fits = g.ndim == x.ndim and all(n in (1, m) for n, m in zip(g.shape, x.shape, strict=True))
        if x.shape != y.shape or not fits:
            continue
        error = float((x * g - y).float().norm() / y.float().norm().clamp(min=1e-12))
        if error <= max(TOLERANCE, torch.finfo(y.dtype).eps):
            verified[site.name] = replace(site, error=error, calls=calls[site.gate].calls)
    return verified


@torch.no_grad()
def describe_sites(model: TappedModel, sites: Sequence[GateSite], images: Tensor) -> dict[str, GateSite]:
    """The sites by name, with the layers of their bottlenecks, and with a kind if their class gives none."""
    taps = {f"{k}:{s.name}": getattr(s, k) for s in sites if not s.spatial for k in ("x", "logits")}
    sizes = {len(images) * site.channels for site in sites}
    readers: list[tuple[str, Tensor, Tensor]] = []  # modules that may read a squeeze, with their inputs and outputs

    def record(name: str, _module: nn.Module, args: tuple[Any, ...], _kwargs: Any, output: Any) -> None:
        with hide_from_modes():
            x = args[0] if args else None
            if name and isinstance(x, Tensor) and isinstance(output, Tensor) and x.numel() in sizes:
                readers.append((name, x.clone(), output.clone()))

    with hook_modules(model.net, record):
        tensors = read_taps(model, images, taps)
    calls, described = model.check(), {}
    for site in sites:
        fc1, output = ("", None) if site.spatial else _find_reader(site, tensors[f"x:{site.name}"], readers)
        if output is None or calls[fc1].calls > 1:  # CBAM's channel attention sends two squeezes through its layers
            fc1, hidden = "", None
        else:
            hidden = None if _same_values(output, tensors[f"logits:{site.name}"]) else Tap(fc1, OUTPUT, True)
        site = replace(site, fc1=fc1, hidden=hidden)
        described[site.name] = replace(site, kind=site.kind or _name_kind(site, model.net))
    return described


def _find_reader(site: GateSite, x: Tensor, readers: Sequence[tuple[str, Tensor, Tensor]]) -> tuple[str, Tensor | None]:
    """The first module that reads the squeeze and changes it, and its output; inside the block if possible."""
    squeeze = site.squeezed(x)
    found = [(name, y) for name, s, y in readers if _same_values(s, squeeze) and not _same_values(y, squeeze)]
    inside = [(name, y) for name, y in found if name.startswith(f"{site.x.module}.")]
    return next(iter([*inside, *found]), ("", None))


def _same_values(a: Tensor, b: Tensor) -> bool:
    """Whether a and b hold equal numbers, not all 0, in any shape; float32 sums in another order differ by 1e-6."""
    if a.numel() != b.numel():
        return False
    a, b = a.flatten().float(), b.flatten().float()
    largest = float(b.abs().max())
    return largest > 0 and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * largest))


def _name_kind(site: GateSite, net: nn.Module) -> str:
    if site.spatial:
        return "spatial gate"
    if not site.fc1:
        return "channel gate"
    if site.hidden is not None:
        return "SE"
    return "ECA" if isinstance(net.get_submodule(site.fc1), nn.Conv1d) else "effective SE"
