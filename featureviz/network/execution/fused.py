"""The same function in fewer passes over memory: batch norm folded into the convolution before it, ReLU in place."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from featureviz.network.private_copy import WAS_INPLACE, private_copy, shared_copy
from featureviz.network.taps import INPUT, OUTPUT, Tap, hooked

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECTIFIERS = (nn.ReLU, nn.ReLU6)  # in place they keep nothing; others keep a copy of what they overwrite


def fused(
    net: nn.Module, run: Callable[[nn.Module], Any], read: Collection[str], *, channels_last: bool = True
) -> nn.Module:
    """A copy of ``net`` whose batch norms, where they follow a convolution, are part of its weights.

    ``w' = w * g / sqrt(var + eps)``, ``b' = (b - mean) * g / sqrt(var + eps) + beta`` (Jacob et al. 2018, 3.2). Module
    paths stay: where the norm was, there is an identity, or what else it did (timm's also activate). Only what ``read``
    does not name is folded, so a tap on a convolution still finds the convolution's own output.

    Which follows which is seen in ``run(copy)``, by the tensor that one returns and the other gets. That nothing else reads
    that tensor cannot be seen: the caller compares outputs before trusting the copy. A ReLU that was in place in the
    original is so again, unless it would overwrite what ``read`` gives. With ``channels_last`` 4-D weights lie so, and
    so does what a convolution gives: a CPU likes it best, and a ``view`` across positions fails on it. Weights that do
    not change are shared with ``net``.
    """
    watched = shared_copy(net)
    pairs = [(conv, norm) for conv, norm in _pairs(watched, run) if conv not in read]
    overwriting = list(_overwriting(watched, run, read))
    twin = private_copy(net)
    for conv_name, norm_name in pairs:
        conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
        assert isinstance(conv, CONVOLUTIONS)
        assert isinstance(norm, NORMS)
        conv.weight, conv.bias = _fused(conv, norm)
        parent, _, child = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), child, _rest(norm))
    for name in overwriting:
        setattr(twin.get_submodule(name), "inplace", True)  # noqa: B010 - known to be there
    for weight in twin.parameters():
        if channels_last and weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)  # 1x1 kernels too, which are both
    return twin


def _pairs(net: nn.Module, run: Callable[[nn.Module], Any]) -> Iterator[tuple[str, str]]:
    """Convolutions and the batch norms that get their outputs, where each runs once."""
    modules = dict(net.named_modules())
    made: dict[int, str] = {}
    follows: dict[str, str] = {}
    calls: Counter[str] = Counter()
    kept: list[Any] = []  # an id is a tensor's own only as long as the tensor lives

    def take(name: str, side: str, tensor: Any) -> None:
        calls[name] += 1
        kept.append(tensor)
        if side == INPUT:
            follows[name] = made.get(id(tensor), "")
        else:
            made[id(tensor)] = name

    # A parametrized convolution computes its weight anew each time, so it has none that could be exchanged.
    taps = {n: Tap(n) for n, m in modules.items() if isinstance(m, CONVOLUTIONS) and "weight" in m._parameters}
    taps |= {n: Tap(n, INPUT) for n, m in modules.items() if _foldable(m)}
    with torch.no_grad(), hooked(net, taps, lambda name, tensor: take(name, taps[name].side, tensor)):
        run(net)
    readers = Counter(follows.values())
    for norm, conv in follows.items():
        if conv and calls[conv] == calls[norm] == readers[conv] == 1:
            yield conv, norm


def _overwriting(net: nn.Module, run: Callable[[nn.Module], Any], read: Collection[str]) -> Iterator[str]:
    """ReLUs that may be in place again: none is read, none gets what a module that is read gave."""
    modules = dict(net.named_modules())
    known = [n for n, m in modules.items() if isinstance(m, RECTIFIERS) and hasattr(m, WAS_INPLACE) and n not in read]
    taps = {n: Tap(n) for n in read} | {n: Tap(n, INPUT) for n in known}
    given: dict[int, Any] = {}  # holds the tensors, whose ids are their own only as long as they live
    refused: set[str] = set()

    def take(name: str, tensor: Any) -> None:
        if taps[name].side == OUTPUT:
            given[id(tensor)] = tensor
        elif id(tensor) in given:
            refused.add(name)

    with torch.no_grad(), hooked(net, taps, take):
        run(net)
    yield from (name for name in known if name not in refused)


def _foldable(module: nn.Module) -> bool:
    """A batch norm that uses its running statistics, plain or of the kind that goes on with ``drop`` and ``act``."""
    known = type(module) in NORMS or {name for name, _ in module.named_children()} == {"drop", "act"}
    return isinstance(module, NORMS) and known and module.running_mean is not None and not module.training


def _fused(conv: Any, norm: Any) -> tuple[nn.Parameter, nn.Parameter]:
    wide = partial(Tensor.to, dtype=torch.float64 if conv.weight.device.type != "mps" else torch.float32)
    parts = (conv.weight, conv.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, variance = (None if t is None else wide(t) for t in parts)
    scale, shift = (None if t is None else wide(t) for t in (norm.weight, norm.bias))
    assert weight is not None
    assert mean is not None
    assert variance is not None
    new = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    fused_weight, fused_bias = (nn.Parameter(t.to(conv.weight.dtype), requires_grad=False) for t in new)
    return fused_weight, fused_bias


def _rest(norm: nn.Module) -> nn.Module:
    """What a batch norm does beside normalising."""
    children = dict(norm.named_children())
    return nn.Sequential(OrderedDict((n, children[n]) for n in ("drop", "act"))) if children else nn.Identity()
