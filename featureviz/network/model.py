"""A network one can tap: any ``nn.Module``, normalised, frozen, read at named layers and left once they are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, final
from uuid import uuid4

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.image.base import Size, height_width
from featureviz.network.activations import Activations, Rows
from featureviz.network.in_force import check_batch, interventions_on
from featureviz.network.redirect import is_redirected
from featureviz.network.running import RunningCopy, failed
from featureviz.network.site import Gates
from featureviz.network.taps import BOTTLENECK, GATE, GATE_VALUE, GATED, INPUT, OUTPUT, PRE_GATE, Layer, Tap, survey

SITE_TAPS = {GATE: "logits", GATE_VALUE: "value", PRE_GATE: "x", GATED: "y", BOTTLENECK: "hidden"}
T = TypeVar("T")


@final
class TappedModel(nn.Module):
    """A private, frozen copy of a network that reads named layers and stops at the deepest one wanted.

    The copy shares the memory of the weights with the caller's network, which does not change. Threads may share the
    model: every forward runs on a ``RunningCopy`` of its own, which is thrown away.

    ``forward(x, layers) -> Activations``; x is ``[M,C,H,W]`` in [0,1]. A layer is a module's path, or ``"input"``
    (x itself), ``"output"`` (what the network returns), or something of a gated block: ``"gate:SITE"`` (its logits
    ``[M,C]``), ``"gate value:SITE"``, ``"pregate:SITE"`` and ``"gated:SITE"`` (the map before and after its gate,
    ``[M,C,H,W]``), ``"bottleneck:SITE"`` (its hidden units, ``[M,r]``).

    Args:
        running: the private copy of the network; ``fv.wrap`` makes it.
        find_gates: finds the gated blocks of a model that it may hook and patch.
        size: the input the network wants: a number for the short side, (height, width), or None for any.
        labels: class names.
        channels: image channels.
    """

    def __init__(
        self,
        running: RunningCopy,
        find_gates: Callable[[TappedModel], Gates],
        *,
        size: Size | None = None,
        labels: Sequence[str] | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.running, self.name = running, running.name
        self.size, self.labels, self.channels = size, labels, channels
        self.key = uuid4().hex  # copies have the same key, so interventions on one act on all
        self._find_gates, self._gates = find_gates, None
        self._tables: dict[tuple[int, int], tuple[dict[str, Layer], Exception | None]] = {}
        self._cache: dict[Callable[..., Any], Any] = {}
        self.eval()

    @property
    def net(self) -> nn.Module:
        """The private copy of the network. To hook it, take an ``isolated`` one."""
        return self.running.net

    @property
    def device(self) -> torch.device:
        return self.running.mean.device

    def train(self, mode: bool = True) -> TappedModel:
        """Stays in eval mode: batch norm's buffers share memory with the caller's."""
        return super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle takes along: nothing that was prepared for these very weights."""
        return vars(self) | {"_cache": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> TappedModel:
        self._cache.clear()
        return super()._apply(fn, recurse)

    def on(self, device: torch.device | str | None) -> TappedModel:
        """Itself, or a copy on another device; itself is never moved."""
        try:
            if device is None or torch.empty(0, device=device).device == self.device:
                return self
            return copy.deepcopy(self).to(device)
        except (RuntimeError, AssertionError) as error:  # torch's ways to say that there is no such device
            raise InvalidInput(f"device={str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error

    def input_size(self, image: tuple[int, int]) -> tuple[int, int]:
        """The size of the views of a (height, width) image: its short side becomes ``size``, if that is a number."""
        if self.size is None:
            return image
        if isinstance(self.size, int):
            factor = self.size / min(image)
            return round(image[0] * factor), round(image[1] * factor)
        return height_width(self.size)

    def forward(self, x: Tensor, layers: Sequence[str], rows: Rows | None = None) -> Activations:
        """The activations of ``layers`` for ``[M,C,H,W]`` in [0,1]; stops at the last of them to run."""
        taps, rows = self.taps(layers, (x.shape[-2], x.shape[-1])), rows or Rows.make(len(x), device=x.device)
        check_batch(self.key, len(rows.images))
        taken = self.isolated().read(x, taps, layers, redirect=is_redirected(self.key))
        return Activations(taken, rows, self.labels)

    def isolated(self) -> RunningCopy:
        """A copy with modules of its own, to hook and throw away; interventions that are in force act on it."""
        twin = self.running.twin()
        for intervention in interventions_on(self.key):
            intervention.install(twin.net)
        return twin

    def taps(self, layers: Sequence[str], size: tuple[int, int]) -> dict[str, Tap]:
        """Where ``layers`` are read, but for ``"input"`` and ``"output"``, in views of (height, width)."""
        if OUTPUT in layers:
            self.check(size)
        return {name: self.tap(name, size) for name in layers if name not in (INPUT, OUTPUT)}

    def tap(self, name: str, size: tuple[int, int] | None = None) -> Tap:
        """Where layer ``name`` is read; an unknown, unreached or ambiguous one is an error with the remedy."""
        kind, colon, site = name.partition(":")
        if kind + colon in SITE_TAPS:
            return self._site_tap(kind + colon, site)
        ran, failure = self._ran(size or self.probe_size)
        layer = ran.get(name)
        if layer is None:
            if name not in dict(self.net.named_modules()):
                raise unknown("layer", name, ran or dict(self.net.named_modules()), "`fv.layers(model)` lists them.")
            if failure is not None:
                where = f"before layer {name!r} was reached"
                raise failed(self.name, self._grey(size or self.probe_size), failure, where) from failure
            raise ModelError(
                f"layer {name!r} does not run in {self.name}'s forward; `fv.layers(model)` lists those that do"
            )
        if layer.gives:
            raise ModelError(f"layer {name!r} gives a {layer.gives}, not a tensor; tap a layer inside it")
        if layer.calls > 1:
            raise ModelError(
                f"layer {name!r} runs {layer.calls} times in one forward, so its activation is ambiguous; tap a module"
                " before or after it"
            )
        return Tap(name)

    def _site_tap(self, kind: str, name: str) -> Tap:
        site = self.gates[name]
        if site.calls > 1:
            raise ModelError(f"gate {name!r} is computed {site.calls} times in one forward, so its value is ambiguous")
        tap = getattr(site, SITE_TAPS[kind])
        if tap is None:
            raise ModelError(f"gate {name!r} ({site.kind}) has no bottleneck whose hidden units could be read")
        return tap

    def layers(self) -> list[Layer]:
        """Every module that runs, in order, with its output's shape for one image."""
        ran = self.check()
        sites = {site.name for site in self.gates.values()}
        return [replace(row, gate=row.name in sites) for row in ran.values()]

    def check(self, size: tuple[int, int] | None = None) -> dict[str, Layer]:
        """The modules that run at ``size`` (the network's own if left out), by name; an error if its forward fails."""
        size = size or self.probe_size
        ran, failure = self._ran(size)
        if failure is not None:
            raise failed(self.name, self._grey(size), failure) from failure
        return ran

    @property
    def gates(self) -> Gates:
        """The SE gates. They are found once, on a copy, which then replaces the private copy."""
        if self._gates is None:
            scratch = copy.copy(self)  # discovery hooks and patches this one
            scratch.__dict__.update(_modules=dict(self._modules), _tables={}, _cache={})
            scratch.running = self.running.twin()
            found = self._find_gates(scratch)
            self.running, self._tables, self._cache = scratch.running, scratch._tables, {}
            self._gates = found
        return self._gates

    def noise_images(self, n: int = 1, size: tuple[int, int] | None = None) -> Tensor:
        """``[n,C,H,W]`` of uniform noise, always the same; by default of the network's own size."""
        generator = torch.Generator().manual_seed(0)
        shape = (n, self.channels, *(size or self.probe_size))
        return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu").to(self.device)

    def cached(self, make: Callable[[TappedModel], T]) -> T:
        """``make(self)``, which is called once; the result is kept with the model."""
        if make not in self._cache:
            self._cache[make] = make(self)
        return self._cache[make]

    def forget_layers(self) -> None:
        """Learn again which modules run, after the copy was patched."""
        self._tables.clear()

    @property
    def probe_size(self) -> tuple[int, int]:
        """Height and width of the images on which layers and gates are learnt."""
        return self.input_size((224, 224))

    def _ran(self, size: tuple[int, int]) -> tuple[dict[str, Layer], Exception | None]:
        """The modules that run on an image of ``size``, and the error that stopped the forward, if any; learnt once."""
        if size not in self._tables:
            twin = self.running.twin()
            self._tables[size] = survey(twin.net, lambda: twin.call(self._grey(size)))
        return self._tables[size]

    def _grey(self, size: tuple[int, int]) -> Tensor:
        return torch.full((1, self.channels, *size), 0.5, device=self.device)


def layers(model: TappedModel) -> list[Layer]:
    """Every layer that runs, in order: name, type, output shape for one image, and whether it is a gated block."""
    return tapped(model).layers()


def tapped(model: TappedModel) -> TappedModel:
    """``model``, or an error that says how to make one of what was given."""
    if isinstance(model, TappedModel):
        return model
    raise InvalidInput(
        f"a {type(model).__name__} was given for the model; wrap it first: fv.wrap(net, mean=..., std=..., size=...)"
    )
