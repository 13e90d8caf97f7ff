"""A network one can tap: any ``nn.Module``, normalised, frozen, read at named layers and left once they are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, final
from uuid import uuid4

import torch
from torch import Tensor, nn

from featureviz.checks import entries, holds_numbers, instance, show, usable
from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.image.base import Size, check_shape, fit_size, height_width
from featureviz.image.picture import cover
from featureviz.network.activations import Activations, Rows
from featureviz.network.axes import IMAGE_AXES, Axes
from featureviz.network.copies.private_copy import take_buffers
from featureviz.network.copies.redirect import is_redirected
from featureviz.network.copies.running import RunningCopy
from featureviz.network.in_force import check_batch, interventions_on
from featureviz.network.site import Gates
from featureviz.network.surroundings import modes_kept
from featureviz.network.survey.heads import head_tap
from featureviz.network.survey.survey import Layer, Survey
from featureviz.network.taps import (
    BOTTLENECK,
    GATE,
    GATE_VALUE,
    GATED,
    HEAD,
    IMAGE,
    INPUT,
    OUTPUT,
    PRE_GATE,
    RETURNED,
    Tap,
)

SITE_TAPS = {GATE: "logits", GATE_VALUE: "value", PRE_GATE: "x", GATED: "y", BOTTLENECK: "hidden"}
T = TypeVar("T")


@final
class TappedModel(nn.Module):
    """A private, frozen copy of a network that reads named layers and stops at the deepest one wanted.

    The copy shares the memory of the weights with the caller's network, which does not change. Threads may share the
    model: every forward runs on a ``RunningCopy`` of its own, which is thrown away.

    ``forward(x, layers) -> Activations``; x is ``[M,C,H,W]`` in [0,1]. A layer is a module's path, or ``"input"``
    (x itself) and ``"output"`` (what the network returns), unless a module is called so; ``".input"`` and ``".output"``
    always are these two. Or it is something of a gated block: ``"gate:SITE"`` (its logits ``[M,C]``),
    ``"gate value:SITE"``, ``"pregate:SITE"`` and ``"gated:SITE"`` (the map before and after its gate, ``[M,C,H,W]``),
    ``"bottleneck:SITE"`` (its hidden units, ``[M,r]``).

    Args:
        running: the private copy of the network; ``fv.wrap`` makes it.
        find_gates: finds the gated blocks of a model that it may hook and patch.
        size: the input the network wants: a number for the short side, (height, width), or None for any.
        labels: class names.
        channels: image channels.
        axes: of layers whose axes the network does not tell.
    """

    _origin: nn.Module | None

    def __init__(
        self,
        running: RunningCopy,
        find_gates: Callable[[TappedModel], Gates],
        *,
        size: Size | None = None,
        labels: Sequence[str] | None = None,
        channels: int = 3,
        axes: Mapping[str, Axes] | None = None,
    ) -> None:
        super().__init__()
        self.running, self.name, self.axes = running, running.name, dict(axes or {})
        self.size, self.labels, self.channels = size, labels, channels
        self.key = uuid4().hex  # copies have the same key, so interventions on one act on all
        self._find_gates, self._gates = find_gates, None
        self.dictionaries: dict[str, tuple[str, Any]] = {}  # the layer that each reads, and its encoder
        self._surveys: dict[tuple[int, int], Survey] = {}
        self._cache: dict[Callable[..., Any], Any] = {}
        self.__dict__["_origin"] = None  # of a scratch copy: the network whose buffers it starts from
        self.eval()

    def __repr__(self) -> str:
        """One line: in a notebook a whole tree of modules would hide what is known of the model."""
        size = "any size" if self.size is None else f"input {self.size}"
        return f"TappedModel({self.name}, {size}, {self.channels} channels, {self.device})"

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
        return vars(self) | {"_cache": {}, "_surveys": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> TappedModel:
        self._cache, self._surveys = {}, {}
        return super()._apply(fn, recurse)

    def on(self, device: torch.device | str | None) -> TappedModel:
        """Itself, or a copy on another device; itself is never moved."""
        found = usable(device)
        return self if found in (None, self.device) else copy.deepcopy(self).to(found)

    def input_size(self, image: tuple[int, int]) -> tuple[int, int]:
        """The size of the views of a (height, width) image: its short side becomes ``size``, if that is a number."""
        return fit_size(self.size, image)

    def forward(self, x: Tensor, layers: Sequence[str], rows: Rows | None = None) -> Activations:
        """The activations of ``layers`` for ``[M,C,H,W]`` in [0,1]; stops at the last of them to run."""
        self.require_numbers()
        self._check_images(x)
        layers = [layers] if isinstance(layers, str) else entries("layers", layers, of="names of layers")
        taps = self.taps(layers, (x.shape[-2], x.shape[-1]))
        rows = Rows.make(len(x), device=x.device) if rows is None else instance("rows", rows, Rows)
        check_batch(self.key, len(rows.images))
        if rows.see is None:
            rows = replace(rows, see=partial(self._see, layers, (x.shape[-2], x.shape[-1]), rows.views))
        taken = self.isolated().read(x, taps, redirect=is_redirected(self.key))
        return self.collect(taken, taps, rows)

    @torch.no_grad()
    def _see(self, layers: Sequence[str], size: tuple[int, int], views: int, pictures: Tensor, _: slice) -> Activations:
        return self(cover(pictures, size).repeat_interleave(views, 0), layers)

    def _check_images(self, x: Any) -> None:
        if not holds_numbers(x) or x.ndim != 4 or x.shape[1] != self.channels or not x.is_floating_point():
            raise InvalidInput(
                f"{show(x)} was given to {self.name}; expected images [M,{self.channels},H,W] of numbers in [0,1]:"
                " divide bytes by 255, and give a single image as image[None]"
            )
        if 0 in x.shape:
            raise InvalidInput(f"{list(x.shape)} images were given to {self.name}; expected at least one, of one pixel")

    def collect(self, taken: Mapping[str, Tensor], taps: Mapping[str, Tap], rows: Rows) -> Activations:
        """What was taken at the taps, with what is known of its axes and of the classes."""
        return Activations(taken, rows, self.labels, {name: tap.axes for name, tap in taps.items() if tap.axes})

    def isolated(self) -> RunningCopy:
        """A copy with modules of its own, to hook and throw away; interventions that are in force act on it."""
        twin = self.running.twin()
        for intervention in interventions_on(self.key):
            intervention.install(twin.net)
        return twin

    def taps(self, layers: Sequence[str], size: tuple[int, int]) -> dict[str, Tap]:
        """Where ``layers`` are read in views of (height, width)."""
        return {name: self.tap(name, size) for name in layers}

    def tap(self, name: str, size: tuple[int, int] | None = None) -> Tap:
        """Where layer ``name`` is read; an unknown, unreached or ambiguous one is an error with the remedy."""
        name, _ = self.dictionaries.get(instance("layer", name, str), (name, None))
        path, survey = self._find_path(name.removeprefix(HEAD)), self._survey(size)
        if path == IMAGE:
            return Tap(IMAGE, axes=IMAGE_AXES)
        tap = self._site_tap(name) if path is None else survey.tap(name, path, self.axes.get(name, self.axes.get(path)))
        if name.startswith(HEAD):
            tap = head_tap(tap, self.net, survey.outputs)
        survey.check_drawn(name, tap.module)
        self.running.alone |= survey.learnt.alone
        return tap

    def _find_path(self, name: str) -> str | None:
        """The path of the module that is called so, ``IMAGE`` or ``RETURNED``; None for something of a gated block."""
        modules = dict(self.net.named_modules(remove_duplicate=False))
        if name in modules and name:
            kind, colon, site = name.partition(":")
            if kind + colon in SITE_TAPS and site in self.gates:
                raise ModelError(f"{name!r} is the name of a module and of something of the gate {site!r}: rename one")
            first = {id(module): path for path, module in self.net.named_modules()}
            return first[id(modules[name])]
        if name in (INPUT, IMAGE, OUTPUT, RETURNED):
            return IMAGE if name in (INPUT, IMAGE) else RETURNED
        kind, colon, _ = name.partition(":")
        if kind + colon in SITE_TAPS:
            return None
        known = list(self._survey(None).layers) or list(modules)
        raise unknown("layer", name, known, "`fv.layers(model)` lists them.")

    def _site_tap(self, layer: str) -> Tap:
        kind, colon, name = layer.partition(":")
        site = self.gates[name]
        if site.calls > 1:
            raise ModelError(f"gate {name!r} is computed {site.calls} times in one forward, so its value is ambiguous")
        tap = getattr(site, SITE_TAPS[kind + colon])
        if tap is None:
            raise ModelError(f"gate {name!r} ({site.kind}) has no bottleneck whose hidden units could be read")
        return tap

    def layers(self) -> list[Layer]:
        """Every module that runs, in order, with its output's shape and axes for one image."""
        sites = set() if self.device.type == "meta" else {site.name for site in self.gates.values()}
        rows, survey = self.check(), self._survey(None)
        axes = survey.learnt.axes | self.axes
        return [replace(row, gate=name in sites, axes=axes[name]) for name, row in rows.items()]

    def check(self, size: tuple[int, int] | None = None) -> dict[str, Layer]:
        """The modules that run at ``size`` (the network's own if left out), by name; an error if its forward fails."""
        survey = self._survey(size)
        if survey.failure is not None:
            raise survey.explain() from survey.failure
        return survey.layers

    @property
    def gates(self) -> Gates:
        """The SE gates. They are found once, on a copy, which then replaces the private copy."""
        if self._gates is None:
            self.require_numbers()
            scratch = copy.copy(self)  # discovery hooks and patches this one
            scratch.__dict__.update(_modules=dict(self._modules), _surveys={}, _cache={}, _origin=self.net)
            scratch.running = self.running.twin()
            with modes_kept():
                found = self._find_gates(scratch)
            take_buffers(scratch.net, self.net)
            self.running, self._surveys, self._cache = scratch.running, {}, {}
            self._gates = found
        return self._gates

    @property
    def looks_at_numbers(self) -> bool:
        """Whether a forward decides by the numbers of the image what it does."""
        return self._survey(None).looks

    def rerun(self, x: Tensor) -> Any:
        """What the copy that discovery hooks and patches returns; its buffers are as in the network before."""
        if self._origin is not None:
            take_buffers(self.net, self._origin, copies=True)
        return self.running(x)

    def noise_images(self, n: int = 1, size: tuple[int, int] | None = None) -> Tensor:
        """``[n,C,H,W]`` of uniform noise, always the same; by default of the network's own size."""
        generator = torch.Generator().manual_seed(0)
        shape = check_shape(n, self.channels, size or self.probe_size)
        return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu").to(self.device)

    def cached(self, make: Callable[[TappedModel], T]) -> T:
        """``make(self)``, which is called once; the result is kept with the model."""
        if make not in self._cache:
            self._cache[make] = make(self)
        return self._cache[make]

    def require_numbers(self) -> None:
        """Raise ``ModelError`` for a network on the meta device, which has shapes only."""
        if self.device.type == "meta":
            raise ModelError(
                f"{self.name}'s weights are on the meta device, where they have no numbers: load them, then wrap it"
            )

    def forget_layers(self) -> None:
        """Learn again which modules run, after the copy was patched."""
        self._surveys = {}

    @property
    def probe_size(self) -> tuple[int, int]:
        """Height and width of the images on which layers and gates are learnt."""
        return self.input_size((224, 224))

    def _survey(self, size: tuple[int, int] | None) -> Survey:
        """What the network does with images of ``size`` (its own if left out), learnt once."""
        size = self.probe_size if size is None else height_width(size)
        if size not in self._surveys:
            self._surveys[size] = Survey(self.running, self.noise_images(2, size))
        return self._surveys[size]


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
