"""The same function in fewer passes over memory: batch norm folded into the convolution before it, ReLU in place."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from featureviz.network.copies.private_copy import WAS_INPLACE, private_copy, shared_copy
from featureviz.network.taps import INPUT, OUTPUT, Tap, hooked

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECTIFIERS = (nn.ReLU, nn.ReLU6)  # in place these keep nothing for the gradient; others keep a copy of their input

Run = Callable[[nn.Module], Any]


def fuse(net: nn.Module, run: Run, read: Collection[str], *, channels_last: bool = True) -> nn.Module:
    """A copy of ``net`` in which a batch norm that follows a convolution is part of the convolution's weights.

    ``w' = w * g / sqrt(var + eps)``, ``b' = (b - mean) * g / sqrt(var + eps) + beta`` (Jacob et al. 2018, 3.2). The
    paths of modules stay: an identity takes the place of the norm, or the rest of the norm, since timm's also activate.

    Args:
        net: the network; it does not change.
        run: runs a copy of the network. It shows which module reads the output of which.
        read: paths of modules whose output is wanted. They are not folded.
        channels_last: store 4-D weights with their channels last, so that a convolution gives its output in the same
            format. On a CPU this is faster, but a ``view`` over positions fails on it.

    A run cannot show that nothing else reads the output of a convolution. So the caller must compare the copy with the
    network. A ReLU that was in place in the original is in place again, unless it would overwrite what is read. Weights
    that do not change are shared with ``net``.
    """
    watched = shared_copy(net, own_buffers=True)
    pairs = [(conv, norm) for conv, norm in _find_pairs(watched, run) if conv not in read]
    rectifiers = _find_rectifiers(watched, run, read)
    twin = private_copy(net)
    for conv_name, norm_name in pairs:
        conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
        assert isinstance(conv, CONVOLUTIONS)
        assert isinstance(norm, NORMS)
        conv.weight, conv.bias = _fold(conv, norm)
        parent, _, child = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), child, _without_norm(norm))
    for name in rectifiers:
        setattr(twin.get_submodule(name), "inplace", True)  # noqa: B010 - known to be there
    for weight in twin.parameters():
        if channels_last and weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)  # 1x1 kernels too, which have both formats
    return twin


def _find_pairs(net: nn.Module, run: Run) -> list[tuple[str, str]]:
    """Convolutions and the batch norms that read their outputs, where each of both runs once."""
    modules = dict(net.named_modules())
    producers: dict[int, str] = {}
    sources: dict[str, str] = {}
    calls: Counter[str] = Counter()
    kept: list[Any] = []  # an id belongs to one tensor only as long as the tensor lives

    def take(name: str, side: str, tensor: Any) -> None:
        calls[name] += 1
        kept.append(tensor)
        if side == INPUT:
            sources[name] = producers.get(id(tensor), "")
        else:
            producers[id(tensor)] = name

    # A parametrized convolution computes its weight in every forward, so it has no weight that could be replaced.
    taps = {n: Tap(n) for n, m in modules.items() if isinstance(m, CONVOLUTIONS) and "weight" in m._parameters}
    taps |= {n: Tap(n, INPUT) for n, m in modules.items() if _is_foldable(m)}
    with torch.no_grad(), hooked(net, taps, lambda name, tensor: take(name, taps[name].side, tensor)):
        run(net)
    readers = Counter(sources.values())
    return [(conv, norm) for norm, conv in sources.items() if conv and calls[conv] == calls[norm] == readers[conv] == 1]


def _find_rectifiers(net: nn.Module, run: Run, read: Collection[str]) -> list[str]:
    """ReLUs that may be in place again: they are not read, and do not get the output of a module that is read."""
    modules = dict(net.named_modules())
    known = [n for n, m in modules.items() if isinstance(m, RECTIFIERS) and hasattr(m, WAS_INPLACE) and n not in read]
    taps = {n: Tap(n) for n in read if n in modules} | {n: Tap(n, INPUT) for n in known}
    outputs: dict[int, Any] = {}  # by id; the tensors are kept, because an id belongs to one only as long as it lives
    refused: set[str] = set()

    def take(name: str, tensor: Any) -> None:
        if taps[name].side == OUTPUT:
            outputs[id(tensor)] = tensor
        elif id(tensor) in outputs:
            refused.add(name)

    with torch.no_grad(), hooked(net, taps, take):
        run(net)
    return [name for name in known if name not in refused]


def _is_foldable(module: nn.Module) -> bool:
    """Whether it is a batch norm with running statistics: a plain one, or timm's with ``drop`` and ``act``."""
    known = type(module) in NORMS or {name for name, _ in module.named_children()} == {"drop", "act"}
    return isinstance(module, NORMS) and known and module.running_mean is not None and not module.training


def _fold(conv: Any, norm: Any) -> tuple[nn.Parameter, nn.Parameter]:
    wide = partial(Tensor.to, dtype=torch.float64 if conv.weight.device.type != "mps" else torch.float32)
    tensors = (conv.weight, conv.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, variance = (None if t is None else wide(t) for t in tensors)
    scale, shift = (None if t is None else wide(t) for t in (norm.weight, norm.bias))
    assert weight is not None
    assert mean is not None
    assert variance is not None
    new = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    fused_weight, fused_bias = (nn.Parameter(t.to(conv.weight.dtype), requires_grad=False) for t in new)
    return fused_weight, fused_bias


def _without_norm(norm: nn.Module) -> nn.Module:
    """What a batch norm does besides normalising."""
    children = dict(norm.named_children())
    return nn.Sequential(OrderedDict((n, children[n]) for n in ("drop", "act"))) if children else nn.Identity()
