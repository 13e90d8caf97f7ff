"""The third tier: gates that a forward computes with bare functions, such as ``x * torch.sigmoid(z)``.

A tracer sees every torch function of a forward, and where the output of a squashing function scales a feature map. The
call that gives the gate's value, and the multiplication, are then patched on the model's private copy: small modules
take their place, at which taps and interventions work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from featureviz.errors import ModelError
from featureviz.gating.patch import Call, Multiply, patch_call, remove_patches
from featureviz.gating.verify import hook_modules, may_squash, propose_site, read_taps
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite

SQUASH: dict[str, Callable[[], nn.Module] | None] = {
    "sigmoid": nn.Sigmoid, "special_expit": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid, "tanh": nn.Tanh,
    "clamp": None, "clip": None, "hardtanh": None, "relu6": None,  # the gate of these is known by its value alone
}  # fmt: skip
MULTIPLY = {"mul", "multiply"}
ARITHMETIC = {"add", "sub", "mul", "multiply", "div", "true_divide", "__rsub__"}  # with a plain number: 1 + tanh(z)
RESHAPE = {
    "view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "permute", "transpose", "movedim", "contiguous",
    "clone", "__getitem__", "to", "float", "half", "type_as", "view_as", "reshape_as",
}  # fmt: skip
EXPAND = {"expand", "expand_as", "broadcast_to"}
TOLERANCE = 1e-3  # relative difference of a product before and after the patch; a wrong product differs by about 1


@final
@dataclass(frozen=True)
class SquashedTensor:
    """The output of a squashing function, with its ``shape`` before any expansion.

    ``maker`` is the path of the module that returns it, ``plain`` says that no arithmetic followed the function.
    """

    call: Call
    shape: tuple[int, ...]
    maker: str = ""
    plain: bool = True


@final
@dataclass
class ScaledMap:
    """A multiplication ``y = x * gate`` of a map by a squashed tensor.

    The gate has one value for each channel along ``axis`` of x, or one for each position if ``axis`` is 0. ``second``
    says that the map is the second operand, ``whole`` that x is the input of a module and y its output.
    """

    call: Call
    gate: SquashedTensor
    x: Tensor
    y: Tensor
    axis: int
    second: bool
    y_copy: Tensor  # because the network may overwrite y
    whole: bool = False


@final
class Tracer(TorchFunctionMode):
    """Follows squashed tensors through reshapes and arithmetic with plain numbers to the maps that they scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled_maps: list[ScaledMap] = []
        self._squashed = WeakTensorKeyDictionary()
        self._stack: list[tuple[str | None, Tensor | None, Counter[str]]] = [(None, None, Counter())]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        for _, _, counts in self._stack:
            counts[name] += 1
        path, _, counts = self._stack[-1]
        k = counts[name]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point() and args and isinstance(args[0], Tensor):
            self._follow(Call(path, name, k, out is args[0]), _strip_inplace(name), args, out)
        return out

    def _follow(self, call: Call, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        tensors = [a for a in args[:2] if isinstance(a, Tensor) and a.numel() > 1]
        squashed = self._squashed.get(tensors[0]) if tensors else None
        if name in SQUASH:
            self._squashed[out] = SquashedTensor(call, tuple(out.shape))
        elif squashed and name in RESHAPE:
            self._squashed[out] = replace(squashed, shape=tuple(out.shape))
        elif squashed and name in EXPAND:
            self._squashed[out] = squashed
        elif squashed and name in ARITHMETIC and len(tensors) == 1:
            self._squashed[out] = replace(squashed, maker="", plain=False)
        elif name in MULTIPLY and len(tensors) == 2:
            self._record_product(call, tensors[0], tensors[1], out)

    def _record_product(self, call: Call, a: Tensor, b: Tensor, out: Tensor) -> None:
        for x, g in ((a, b), (b, a)):
            gate = self._squashed.get(g)
            if gate and x.shape == out.shape and (axis := _find_channel_axis(gate.shape, x.shape)) is not None:
                self.scaled_maps.append(ScaledMap(call, gate, x, out, axis, x is b, out.clone()))

    def enter(self, path: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        self._stack.append((path, first, Counter()))

    def leave(self, path: str, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        _, first, _ = self._stack.pop()
        if first is None or not isinstance(output, Tensor):
            return
        squashed = self._squashed.get(output)
        if squashed and not squashed.maker and may_squash(module, first, output):
            self._squashed[output] = replace(squashed, maker=path)
        for scaled in self.scaled_maps:
            if scaled.y is output and scaled.x is first and scaled.call.path == path:
                scaled.whole = True


@torch.no_grad()
def find_functional(model: TappedModel, images: Tensor, known: Mapping[str, GateSite]) -> list[GateSite]:
    """The sites in ``model``'s forward that are not among the ``known`` ones."""
    tracer = Tracer()
    with hook_modules(model.net, tracer.leave, tracer.enter), tracer:
        model.running(images)
    runs = {name: layer.calls for name, layer in model.check().items()}
    gates = {site.gate for site in known.values()}
    sites: dict[str, GateSite] = {}
    before: dict[str, Tensor] = {}
    for call, scaled in {scaled.call: scaled for scaled in tracer.scaled_maps}.items():
        if call.path is None or scaled.gate.maker in gates or (scaled.whole and call.path in known):
            continue
        site = _patch_site(model, scaled, runs, call.path in known or call.path in sites)
        sites[site.name], before[site.name] = site, site.y.reshape(scaled.y_copy)
    model.forget_layers()
    if sites and not _is_unchanged(model, images, sites, before):
        remove_patches(model.net)
        model.forget_layers()
        return []
    return list(sites.values())


def _patch_site(model: TappedModel, scaled: ScaledMap, runs: Mapping[str, int], taken: bool) -> GateSite:
    """The site of a scaled map, after the patches that it needs.

    ``taken`` says that another gate has the name of its block.
    """
    call, gate, net = scaled.call, scaled.gate, model.net
    assert call.path is not None
    order, found, block = (1, 0) if scaled.second else (0, 1), "functional", call.path
    source = gate.maker or gate.call.path or ""
    alone = runs.get(source, 1) <= runs.get(call.path, 1)  # else the source also computes something else
    squash = SQUASH[_strip_inplace(gate.call.function)] if gate.plain and gate.call.path is not None else None
    if alone and gate.maker:
        path = gate.maker
    elif alone and squash:  # the function alone produced the value, so a module computes the same
        path = patch_call(net, gate.call, "gate", squash())
    else:
        block, found = patch_call(net, call, "scale", Multiply(nn.Identity()), order), "functional, value only"
        path = f"{block}.gate"
    if found == "functional" and (taken or not scaled.whole):
        block = patch_call(net, call, "scale", Multiply(), order)
    axis, spatial = scaled.axis or 1, scaled.axis == 0
    name = block if taken or not call.path else call.path
    return propose_site(net, name, block, path, scaled.x.shape[axis], found, axis=axis, spatial=spatial)


def _is_unchanged(
    model: TappedModel, images: Tensor, sites: Mapping[str, GateSite], before: Mapping[str, Tensor]
) -> bool:
    """Whether the products are the same as before; a forward that iterates over its children also runs new ones."""
    try:
        after = read_taps(model, images, {name: site.y for name, site in sites.items()})
    except ModelError:
        return False
    return all(
        name in after and after[name].shape == y.shape and bool((after[name] - y).norm() <= TOLERANCE * y.norm())
        for name, y in before.items()
    )


def _strip_inplace(function: str) -> str:
    """The function's name without the final underscore of an in-place version."""
    return function if function.endswith("__") else function.removesuffix("_")


def _find_channel_axis(gate: tuple[int, ...], x: torch.Size) -> int | None:
    """The axis of x whose channels a gate of this shape scales; 0 for one value a position, None if neither."""
    n, ones = x[0], (1,) * (len(x) - 2)
    shape = (1,) * (len(x) - len(gate)) + gate
    if len(x) < 3 or len(shape) != len(x):
        return None
    if shape == (n, x[1], *ones) and x[2:].numel() > 1:
        return 1
    if shape == (n, *ones, x[-1]) and x[1:-1].numel() > 1:
        return -1
    return 0 if len(x) == 4 and x[1] > 1 and x[2:].numel() > 1 and shape == (n, 1, *x[2:]) else None
