"""One forward, watched: what every module gives, who reads it, and what the forward must not do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from featureviz.errors import ModelError, out_of_memory
from featureviz.network.surroundings import modes_kept
from featureviz.network.taps import RETURNED, find_tensor, first_argument, hide_from_modes

_SAMPLE = 1 << 16  # numbers of a tensor that are compared
_LOOKS = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "nonzero", "equal", "allclose"}

Mark = tuple[float, ...]  # of a tensor: equal tensors have equal marks, and others have not


class Output(NamedTuple):
    """What a module gave when it last ran."""

    type: str
    shape: tuple[int, ...]
    calls: int
    gives: str  # the type, where it is no tensor
    readable: bool
    mark: Mark
    drawn: bool = False  # whether random numbers were drawn before it


@final
@dataclass
class Pass:
    """What a forward shows: ``outputs`` by path, in the order in which they are ready, and the error that ended it.

    ``channels`` is the axis of the channels of an output, as far as the modules that make or read it tell. ``looks``
    says that the forward looked at the numbers of a tensor, so another image may take another way. ``dtype`` is that of
    the first weights that were used.
    """

    outputs: dict[str, Output] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None
    looks: bool = False
    dtype: torch.dtype | None = None


def watch(
    net: nn.Module, run: Callable[[], Any], foreign: Iterable[Tensor], *, rows: Mapping[str, Output] | None = None
) -> Pass:
    """Run, and note what each module of ``net`` gives. Nothing is differentiated.

    Args:
        net: a copy with hooks of its own, thrown away afterwards.
        run: the forward.
        foreign: weights and buffers of other copies; a forward that uses one of them is stopped, because it would run
            modules that are not the copy's own.
        rows: outputs of an image alone. The marks are then those of its rows among three images, the second.
    """
    seen, evidence, start = Pass(), _Evidence(), _generators(net)

    def has_drawn() -> bool:
        return any(not torch.equal(a, b) for a, b in zip(start, _generators(net), strict=True))

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        with hide_from_modes():
            weight = next((p for p in module.parameters(recurse=False) if p.is_floating_point()), None)
            seen.dtype = seen.dtype or (None if weight is None else weight.dtype)
            evidence.read(module, first_argument(args, kwargs))

    def after(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        with hide_from_modes():
            tensor = find_tensor(output)
            calls = seen.outputs[path].calls + 1 if path in seen.outputs else 1
            seen.outputs.pop(path, None)  # the order is that of the last run
            alone = None if rows is None else rows.get(path)
            seen.outputs[path] = _describe(type(module).__name__, output, tensor, calls, alone, has_drawn())
            if tensor is not None:
                evidence.make(path, module, first_argument(args, kwargs), tensor)

    for path, module in net.named_modules():
        if path:
            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(partial(after, path), with_kwargs=True)
    mode = _Watch(foreign, seen)
    try:
        with modes_kept(mode), torch.no_grad():
            output = run()
        alone = None if rows is None else rows.get(RETURNED)
        seen.outputs[RETURNED] = _describe("", output, find_tensor(output), 1, alone, has_drawn())
    except Exception as error:  # the network may raise anything; it is raised when a layer needs it
        if out_of_memory(error) or error is mode.stopped:
            raise  # there may be memory the next time
        seen.failure = error
    seen.channels = evidence.channels()
    return seen


@final
class _Evidence:
    """Where the channels of a tensor are, by the modules that make it and those that read it."""

    def __init__(self) -> None:
        self._makers = WeakTensorKeyDictionary()  # a tensor to the paths of the modules that gave it
        self._made: dict[str, int] = {}
        self._read: dict[str, set[int]] = {}

    def read(self, module: nn.Module, given: Any) -> None:
        axis = channel_axis_of(module, given) if isinstance(given, Tensor) else None
        for maker in self._paths(given) if axis is not None else ():
            self._read.setdefault(maker, set()).add(axis)  # pyright: ignore[reportArgumentType]

    def make(self, path: str, module: nn.Module, given: Any, made: Tensor) -> None:
        axis = channel_axis_of(module, made)
        if axis is None and _is_elementwise(module) and isinstance(given, Tensor) and given.shape == made.shape:
            axis = next((self._made[p] for p in self._paths(given) if p in self._made), None)
        if axis is None:  # a container gives what its last module gave
            axis = next((self._made[p] for p in self._paths(made) if p in self._made), None)
        if axis is not None:
            self._made[path] = axis
        self._makers[made] = [*self._paths(made), path]

    def channels(self) -> dict[str, int]:
        agreed = {path: next(iter(axes)) for path, axes in self._read.items() if len(axes) == 1}
        return agreed | self._made

    def _paths(self, tensor: Any) -> list[str]:
        return (self._makers.get(tensor) or []) if isinstance(tensor, Tensor) else []


def _generators(net: nn.Module) -> list[Tensor]:
    """The states of torch's generators that a forward of ``net`` may draw from."""
    cuda = {p.device for p in net.parameters() if p.device.type == "cuda"}
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cuda)]


def channel_axis_of(module: nn.Module, tensor: Tensor) -> int | None:
    """The axis of the channels in what a module of a known class reads or gives; None for other classes."""
    if isinstance(module, _FIRST) and tensor.ndim > 2:
        return 1
    if isinstance(module, (nn.Linear, nn.MultiheadAttention)) or type(module) in (nn.LayerNorm, nn.RMSNorm):
        return tensor.ndim - 1
    if isinstance(module, nn.LayerNorm):  # of a subclass, which may have its channels elsewhere
        fits = [axis for axis, n in enumerate(tensor.shape) if axis and (n,) == tuple(module.normalized_shape)]
        return fits[0] if len(fits) == 1 else None
    return None


_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.PixelShuffle, nn.Upsample, nn.LocalResponseNorm,
)  # fmt: skip


def _is_elementwise(module: nn.Module) -> bool:
    return type(module).__module__ in ("torch.nn.modules.activation", "torch.nn.modules.dropout") or isinstance(
        module, nn.Identity
    )


def _describe(kind: str, output: Any, tensor: Tensor | None, calls: int, alone: Output | None, drawn: bool) -> Output:
    gives = "" if isinstance(output, Tensor) else type(output).__name__
    if tensor is None:
        return Output(kind, (), calls, gives, False, (), drawn)
    shape = tuple(tensor.shape)
    if alone is not None and len(alone.shape) == len(shape):
        grown = [k for k, (n, m) in enumerate(zip(shape, alone.shape, strict=True)) if n == 3 * m]
        if len(grown) == 1:
            rows = alone.shape[grown[0]]
            tensor = tensor.narrow(grown[0], rows, rows)
    return Output(kind, shape, calls, gives, True, _mark(tensor), drawn)


def _mark(tensor: Tensor) -> Mark:
    """Three numbers that tell tensors apart; none on the meta device."""
    if tensor.is_meta or not tensor.numel():
        return ()
    flat = tensor.detach().flatten()
    flat = (flat.abs() if flat.is_complex() else flat.dequantize() if flat.is_quantized else flat).float()
    flat = flat[:: -(-len(flat) // _SAMPLE)]
    ramp = torch.linspace(-1, 1, len(flat), dtype=torch.float32, device=flat.device)
    return tuple(torch.stack([flat.norm(), flat.mean() * len(flat) ** 0.5, (flat * ramp).sum()]).tolist())


@final
class _Watch(TorchFunctionMode):
    """Sees every function of a forward: stops it at a foreign tensor, notes looks at numbers."""

    def __init__(self, foreign: Iterable[Tensor], seen: Pass) -> None:
        super().__init__()
        self.foreign, self.seen = WeakTensorKeyDictionary(), seen
        self.stopped: ModelError | None = None
        for tensor in foreign:
            self.foreign[tensor] = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for thing in (*args, *(kwargs or {}).values()):
            if isinstance(thing, Tensor) and thing in self.foreign:
                self.stopped = ModelError(
                    "the network's forward runs modules of the network that was given to wrap, and not those of the"
                    " copy, through a function or an object that holds them; let it use its own modules (self), or, in"
                    " a forward_fn, its first argument"
                )
                raise self.stopped
        name = getattr(func, "__name__", "")
        if name in _LOOKS and args and isinstance(args[0], Tensor) and not args[0].is_meta:
            self.seen.looks = True
        return func(*args, **(kwargs or {}))
