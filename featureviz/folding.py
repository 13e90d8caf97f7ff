"""The same function in fewer passes over memory: batch norm folded into the convolution before it, channels last."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from featureviz.copying import private_copy
from featureviz.taps import INPUT, Tap, hooked

if TYPE_CHECKING:
    from featureviz.gates import GateSite

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded(net: nn.Module, run: Callable[[], Any], read: Collection[str]) -> nn.Module:
    """A copy of ``net`` whose batch norms, where they follow a convolution, are part of its weights.

    ``w' = w * g / sqrt(var + eps)``, ``b' = (b - mean) * g / sqrt(var + eps) + beta`` (Jacob et al. 2018, 3.2). Module
    paths stay: where the norm was, there is an identity, or what else it did (timm's also activate). Only what ``read``
    does not name is folded, so a tap on a convolution still finds the convolution's own output.

    Which follows which is seen in ``run()``, by the tensor that one returns and the other gets. That nothing else reads
    that tensor cannot be seen: the caller compares outputs before trusting the copy. 4-D weights lie channels last
    where the device is a CPU, whose convolutions like it best. Weights that do not change are shared with ``net``.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(net, run) if conv not in read]
    twin = private_copy(net)
    for conv_name, norm_name in pairs:
        conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
        assert isinstance(conv, CONVOLUTIONS)
        assert isinstance(norm, NORMS)
        conv.weight, conv.bias = _fused(conv, norm)
        parent, _, child = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), child, _rest(norm))
    if next((p.device.type for p in twin.parameters()), "") == "cpu":
        twin = twin.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - missing in its stubs
    return twin


def keep_float32(net: nn.Module, sites: Iterable[GateSite]) -> None:
    """Let what makes a gate of its squeeze compute in float32, whatever autocast is around it.

    A gate's logit is a small sum of large numbers, and a hard sigmoid ends at its third unit.
    """
    paths = {path for site in sites for path in (site.fc1, site.logits.module, site.gate) if path}
    for path in paths:
        module = net.get_submodule(path)
        if not any(module.children()):
            module.forward = _InFloat32(module.forward)


@final
@dataclass(frozen=True)
class _InFloat32:
    """A forward whose tensors are float32, outside of any autocast."""

    forward: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        with torch.autocast(args[0].device.type, enabled=False):
            return self.forward(*(a.float() if isinstance(a, Tensor) else a for a in args))


def _pairs(net: nn.Module, run: Callable[[], Any]) -> Iterator[tuple[str, str]]:
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

    taps = {n: Tap(n) for n, m in modules.items() if isinstance(m, CONVOLUTIONS)}
    taps |= {n: Tap(n, INPUT) for n, m in modules.items() if _foldable(m)}
    with torch.no_grad(), hooked(net, taps, lambda name, tensor: take(name, taps[name].side, tensor)):
        run()
    for norm, conv in follows.items():
        if conv and calls[conv] == calls[norm] == 1:
            yield conv, norm


def _foldable(module: nn.Module) -> bool:
    """A batch norm that uses its running statistics, plain or of the kind that goes on with ``drop`` and ``act``."""
    known = type(module) in NORMS or (hasattr(module, "drop") and hasattr(module, "act"))
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
