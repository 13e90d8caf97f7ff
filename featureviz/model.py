"""A network one can tap: any ``nn.Module``, normalised, frozen, read at named layers and left once they are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from featureviz.activations import Activations, Rows
from featureviz.copying import private_copy
from featureviz.errors import FeaturevizError, InvalidInput, ModelError, out_of_memory, unknown
from featureviz.image.base import Size, height_width
from featureviz.lean import Lean
from featureviz.taps import CONTENT, GATE, GATE_VALUE, GATED, HIDDEN, INPUT, OUTPUT, Layer, Reached, Tap, hooked, survey

if TYPE_CHECKING:
    from featureviz.gates import Gates

SITE_TAPS = {GATE: "logits", GATE_VALUE: "value", CONTENT: "x", GATED: "y", HIDDEN: "hidden"}
Enter = Callable[[nn.Module, Tensor], Any]


@final
class TappedModel(nn.Module):
    """A private, frozen copy of a network that reads named layers and stops at the deepest one wanted.

    The copy shares the weights' memory with the caller's network and nothing else: its flags, modes, hooks and
    gradients stay as they are. Normalisation is ``(x - mean) / std``.

    ``forward(x, layers) -> Activations``; x is ``[M,3,H,W]`` in [0,1]. A layer is a module's path, or ``"input"``
    (x itself), ``"output"`` (what the network returns), or something of a gated block: ``"gate:SITE"`` (its logits
    ``[M,C]``), ``"gate value:SITE"``, ``"content:SITE"`` and ``"gated:SITE"`` (the map before and after its gate,
    ``[M,C,H,W]``), ``"hidden:SITE"`` (its bottleneck, ``[M,r]``).
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        size: Size | None = None,
        labels: Sequence[str] | None = None,
        enter: Enter | None = None,
        channels: int = 3,
        name: str = "",
    ) -> None:
        super().__init__()
        self.net = private_copy(net)
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        deviation = _per_channel(std, 1.0, channels, "std")
        if bool((deviation <= 0).any()):
            raise InvalidInput(f"std={std} was given; expected positive numbers")
        self.mean = nn.Buffer(_per_channel(mean, 0.0, channels, "mean").to(device))
        self.std = nn.Buffer(deviation.to(device))
        self.size, self.labels, self.enter, self.channels = size, labels, enter, channels
        self.name = name or type(net).__name__
        self.interventions: list[str] = []  # what now holds its gates; see featureviz.interventions
        self._tables: dict[tuple[int, int], tuple[dict[str, Layer], Exception | None]] = {}
        self.programs: dict[Any, Any] = {}  # its compiled forms; see featureviz.trunk
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def train(self, mode: bool = True) -> TappedModel:
        """Stays in eval mode: batch norm's buffers share memory with the caller's."""
        return super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle takes along: nothing that was prepared for these very weights."""
        return {name: value for name, value in vars(self).items() if name != "_lean"} | {"programs": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> TappedModel:
        self.forget()  # moved or cast, it leaves its lean copies behind
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
        taken = {INPUT: x} if INPUT in layers else {}
        taps = {name: self.tap(name, x) for name in layers if name not in (INPUT, OUTPUT)}
        if OUTPUT in layers:
            self.check((x.shape[-2], x.shape[-1]))
        if taps or OUTPUT in layers:
            taken |= self.read(x, taps, whole=OUTPUT in layers)
        return Activations(taken, rows or Rows.of(len(x), device=x.device), self.labels)

    def read(self, x: Tensor, taps: Mapping[str, Tap], *, whole: bool = False) -> dict[str, Tensor]:
        """Run until every tap is read, in order of running; ``whole`` runs on and adds ``"output"``."""
        taken: dict[str, Tensor] = {}

        def take(name: str, tensor: Any) -> None:
            if not isinstance(tensor, Tensor):
                raise ModelError(f"layer {name!r} gives a {type(tensor).__name__}, not a tensor; tap a layer inside it")
            tensor = taps[name].shaped(tensor)
            last = not whole and len(taken.keys() | {name}) == len(taps)
            taken[name] = tensor if last else tensor.clone()  # what runs on may overwrite it in place
            if last:
                raise Reached

        with hooked(self.net, taps, take):
            try:
                output = self.run(x)
                if whole:
                    taken[OUTPUT] = _logits(output)
            except Reached:
                pass
        return taken

    def tap(self, name: str, x: Tensor | None = None) -> Tap:
        """Where layer ``name`` is read; an unknown, unreached or ambiguous one is an error with the remedy."""
        kind, colon, site = name.partition(":")
        if kind + colon in SITE_TAPS:
            return self._site_tap(kind + colon, site)
        size = (x.shape[-2], x.shape[-1]) if x is not None else self._probe_size
        ran, failure = self._ran(size)
        layer = ran.get(name)
        if layer is None:
            if name not in dict(self.net.named_modules()):
                raise unknown("layer", name, ran or dict(self.net.named_modules()), "`fv.layers(model)` lists them.")
            if failure is not None:
                raise self._failed(self._grey(size), failure, f"before layer {name!r} was reached") from failure
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
        size = size or self._probe_size
        ran, failure = self._ran(size)
        if failure is not None:
            raise self._failed(self._grey(size), failure, "") from failure
        return ran

    @cached_property
    def gates(self) -> Gates:
        """The SE gates, found and checked once."""
        from featureviz.gates import discover

        return discover(self)

    def probe(self, n: int = 1, size: tuple[int, int] | None = None) -> Tensor:
        """``[n,C,H,W]`` of uniform noise, the same each time, to look inside with; at the network's own size."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(n, self.channels, *(size or self._probe_size), generator=generator).to(self.device)

    def run(self, x: Tensor) -> Any:
        """The forward and what it returns, its errors told as the network's own."""
        try:
            return self._enter(x)
        except Exception as error:  # the network's own, whatever it is
            if isinstance(error, FeaturevizError) or out_of_memory(error):
                raise
            raise self._failed(x, error, "") from error

    @property
    def hooked(self) -> bool:
        """Whether something looks into the network or changes what it does, as an intervention."""
        return self._lean.hooked

    @cached_property
    def _lean(self) -> Lean:
        return Lean(self)

    def lean(self, layers: Sequence[str], size: tuple[int, int], *, half: bool = False) -> TappedModel:
        """A copy that computes the same ``layers`` in fewer passes (:mod:`featureviz.folding`), or itself.

        Itself where the copy does not agree on a probe of ``size``, and while it is ``hooked``. Made once, and again
        when the weights have changed. With ``half``, gates stay in float32 under an autocast.
        """
        if self.hooked:
            return self
        if half:
            _ = self.gates  # their discovery may change the private copy, and so comes first
        read = frozenset(self.tap(name).module for name in layers if name not in (INPUT, OUTPUT))
        twin = self._lean.of(layers, read, size, half)
        vars(twin)["enter"] = self.enter  # which a redirection exchanges for as long as it lasts
        return twin

    def notice(self) -> None:
        """Look at the weights: lean copies of others than these are made anew."""
        self._lean.notice()

    def forget(self) -> None:
        """Learn anew which modules run: the private copy got another one."""
        self._tables.clear()
        self.programs.clear()
        vars(self).pop("_lean", None)

    @property
    def _probe_size(self) -> tuple[int, int]:
        return self.input_size((224, 224))

    def _enter(self, x: Tensor) -> Any:
        parameter = next(self.net.parameters(), self.mean)
        x = ((x - self.mean) / self.std).to(parameter.dtype)
        return self.net(x) if self.enter is None else self.enter(self.net, x)

    def _ran(self, size: tuple[int, int]) -> tuple[dict[str, Layer], Exception | None]:
        """The modules that run on one image of ``size``, and what stopped the forward, if anything did; learnt once."""
        if size not in self._tables:
            self._tables[size] = survey(self.net, lambda: self._enter(self._grey(size)))
        return self._tables[size]

    def _grey(self, size: tuple[int, int]) -> Tensor:
        return torch.full((1, self.channels, *size), 0.5, device=self.device)

    def _failed(self, x: Tensor, failure: Exception, where: str) -> ModelError:
        return ModelError(
            f"{self.name}'s forward failed on {list(x.shape)}{' ' + where if where else ''}:"
            f" {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
            "\nif the network wants another input, give a larger size (wrap(net, size=...), --input); if it is not"
            " called as net(x), give wrap(net, enter=...)"
        )


def wrap(
    net: nn.Module,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: Size | None = None,
    labels: Sequence[str] | None = None,
    enter: Enter | None = None,
    channels: int = 3,
    name: str = "",
) -> TappedModel:
    """Make any network ready to be visualised; the network itself is left exactly as it is.

    Args:
        net: any ``nn.Module``.
        mean: subtracted from images in [0,1], a number or one a channel; 0 if left out.
        std: divided by afterwards; 1 if left out.
        size: the input the network wants: a number for the short side, (height, width), or None for any.
        labels: class names, for ``Logit("golden retriever")``.
        enter: ``enter(net, x)`` in the place of ``net(x)``, for what is not a plain image classifier.
        channels: image channels, 3 for RGB.
        name: what reports call it.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> model = wrap(net, mean=0.5, std=0.25, size=16)
    >>> model(torch.rand(2, 3, 16, 16), ["0"])["0"].shape
    torch.Size([2, 8, 14, 14])
    """
    return TappedModel(net, mean=mean, std=std, size=size, labels=labels, enter=enter, channels=channels, name=name)


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


@torch.inference_mode(False)
def _per_channel(value: Sequence[float] | float | None, default: float, channels: int, what: str) -> Tensor:
    numbers = torch.as_tensor(default if value is None else value, dtype=torch.float32).flatten()
    if len(numbers) not in (1, channels):
        raise InvalidInput(f"{what}={value} was given; expected a number, or {channels} of them")
    return numbers.expand(channels).clone().view(1, channels, 1, 1)


def _logits(output: Any) -> Tensor:
    for candidate in (output, getattr(output, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    raise ModelError(f"the network returns a {type(output).__name__}; give wrap(net, enter=...) that returns a tensor")
