"""What a network does with images of one size: its layers with their axes, and what it makes of other images.

Four forwards of noise tell it: one image, the same once more, the same between two others, one larger image. An axis
that grows with the number of images is the batch, one that grows with their size has positions, and one that does not
grow may be the channels. Where several are left, the modules that make and read the tensor decide, and then its
neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from featureviz.errors import ModelError, out_of_memory
from featureviz.network.axes import Axes
from featureviz.network.copies.running import RunningCopy
from featureviz.network.diagnosis import explain_failure
from featureviz.network.site import within
from featureviz.network.survey.evidence import explain_axes, learn_axes
from featureviz.network.survey.passes import Mark, Output, Pass, watch
from featureviz.network.survey.tokens import with_tokens
from featureviz.network.taps import RETURNED, Tap

_LARGER = 64  # pixels: even a network that halves its maps six times gives larger ones
_MIXED, _DRAWN = 1e-2, 1e-4  # relative: TF32 rounds to 1e-3; without drawing numbers a second run gives the same


NOT_LEARNT = Axes(0, None)


@final
@dataclass(frozen=True)
class Layer:
    """One row of ``fv.layers``: a module that runs, and the shape and axes of its output for one image.

    ``units`` is the number of channels, 0 where it has none or they are not known.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    calls: int
    gives: str = ""  # the type of an output that is no tensor
    gate: bool = False
    readable: bool = True
    axes: Axes = NOT_LEARNT

    @property
    def units(self) -> int:
        return self.shape[self.axes.channel] if self.axes.channel is not None and self.readable else 0

    def __str__(self) -> str:
        gives = f"gives a {self.gives}" if self.gives else ""
        notes = [
            "gate" if self.gate else "", str(self.axes) if self.readable else "",
            str(self.axes.tokens or ""), f"runs {self.calls} times" if self.calls > 1 else "",
            f"{gives}, its tensor is read" if gives and self.readable else gives,
        ]  # fmt: skip
        return "  ".join([f"{self.name:40} {self.type:24} {list(self.shape)}", *filter(None, notes)])


@final
class Survey:
    """A network, watched on noise ``[2,C,H,W]``.

    ``failure`` is the error that ended the first forward, if any; what ran before it can be read. ``alone`` says that
    a batch must go through one image at a time, since it mixes images, takes one only, or looks at their numbers.
    ``drawn`` holds the layers whose output depends on random numbers that the forward draws.
    """

    def __init__(self, running: RunningCopy, noise: Tensor) -> None:
        self._running, self._noise = running, noise
        self._learnt: Learnt | None = None
        self._one = self._pass(noise[:1])
        if self._one.dtype not in (None, running.dtype):
            running.dtype = self._one.dtype
            self._one = self._pass(noise[:1])
        self.failure = self._one.failure

    @property
    def outputs(self) -> dict[str, Output]:
        """What each module gives for one image, in the order in which it is ready; ``RETURNED`` is the network's."""
        return self._one.outputs

    @property
    def looks(self) -> bool:
        """Whether the forward looks at the numbers of a tensor."""
        return self._one.looks

    @property
    def layers(self) -> dict[str, Layer]:
        """The modules that run, by name, without axes."""
        return {
            name: Layer(name, o.type, o.shape, o.calls, o.gives, readable=o.readable)
            for name, o in self._one.outputs.items()
            if name != RETURNED
        }

    @property
    def learnt(self) -> Learnt:
        """The axes of every output, and what the network mixes or draws; this takes three more forwards, once."""
        if self._learnt is None:
            self._learnt = self._learn()
        return self._learnt

    def tap(self, name: str, path: str, axes: Axes | None) -> Tap:
        """Where the layer that is called ``name`` is read; ``axes`` replace what was learnt of them.

        Raises:
            ModelError: it does not run, runs several times, or gives no tensor.
        """
        output = self.outputs.get(path)
        if output is None and self.failure is not None:
            raise self.explain(f"before layer {name!r} was reached") from self.failure
        if output is None:
            around = next((p for p in self.layers if within(path, p)), "")
            remedy = "`fv.layers(model)` lists those that do"
            if around:
                remedy = f"its weights may be used by {around!r}, which runs: tap that"
            raise ModelError(f"layer {name!r} does not run in {self._running.name}'s forward; {remedy}")
        if not output.readable:
            raise ModelError(f"layer {name!r} gives a {output.gives}, not a tensor; tap a layer inside it")
        if output.calls > 1:
            raise ModelError(
                f"layer {name!r} runs {output.calls} times in one forward, so its activation is ambiguous; tap a module"
                " before or after it"
            )
        known = with_tokens(path, axes, self.outputs, self._running.net) if axes else self.learnt.axes[path]
        return Tap(path, axes=known)

    def check_drawn(self, name: str, path: str) -> None:
        """Raise ``ModelError`` if the layer depends on random numbers of the network's own."""
        if path in self.learnt.drawn:
            raise ModelError(
                f"layer {name!r} depends on random numbers that {self._running.name} draws in every forward, or on what"
                " it kept of the forward before, so a picture of it could not be made twice; wrap a network that does"
                " neither in eval mode (F.dropout(x, training=self.training), for example), or tap a layer before it"
            )

    def explain(self, where: str = "") -> ModelError:
        """The error that ended the forward, and at which point (``where``), with the remedy for its cause."""
        assert self.failure is not None
        return explain_failure(self._running.name, self._running.net, self._noise[:1], self.failure, where)

    def _learn(self) -> Learnt:
        one, again = self._one, self._pass(self._noise[:1], seed=1, times=2)
        other = 0.3 * self._noise[1:]  # darker, so that what it changes in another image is seen
        three, room = self._if_room(torch.cat([other, self._noise[:1], other]), one)
        larger = torch.nn.functional.pad(self._noise[:1], (0, _LARGER, 0, _LARGER), mode="replicate")
        wide, _ = self._if_room(larger)
        learnt = learn_axes(one, three, wide)
        axes = {name: with_tokens(name, own, one.outputs, self._running.net) for name, own in learnt.items()}
        drawn = {name for name, output in one.outputs.items() if output.drawn} | {*_differing(one, again, _DRAWN)}
        mixed = [name for name in _differing(one, three, _MIXED) if name not in drawn]
        folded = [name for name in mixed if axes[name].windows != 1]
        for name in folded:
            reason = explain_axes(name, one.outputs[name].shape, "its rows are not in the order of the views")
            axes[name] = replace(axes[name], batch=None, channel=None, unclear=reason)
        takes_one = room and three.failure is not None and one.failure is None
        alone = one.looks or takes_one or len(mixed) > len(folded)
        return Learnt(axes, alone, frozenset(drawn))

    def _if_room(self, x: Tensor, rows: Pass | None = None) -> tuple[Pass, bool]:
        """The pass, or an empty one where the memory is full."""
        try:
            return self._pass(x, rows=rows), True
        except Exception as error:
            if not out_of_memory(error):
                raise
            return Pass(), False

    def _pass(self, x: Tensor, *, rows: Pass | None = None, seed: int = 0, times: int = 1) -> Pass:
        """What the last of ``times`` forwards of one copy shows."""
        twin = self._running.twin()

        def run() -> Any:
            return [twin.call(x) for _ in range(times)][-1]

        with _seeded(x.device, seed):
            outputs = None if rows is None else rows.outputs
            return watch(twin.net, run, self._running.foreign(), rows=outputs)


@final
@dataclass(frozen=True)
class Learnt:
    """See ``Survey``."""

    axes: dict[str, Axes]
    alone: bool
    drawn: frozenset[str]


def _differing(a: Pass, b: Pass, tolerance: float) -> list[str]:
    """The outputs whose marks differ by more than this share of their norm."""
    both = [(n, o.mark, b.outputs[n].mark) for n, o in a.outputs.items() if n in b.outputs]
    return [name for name, mark, other in both if _differ(mark, other, tolerance)]


def _differ(a: Mark, b: Mark, tolerance: float) -> bool:
    if len(a) != len(b) or not a:
        return len(a) != len(b)
    if any(map(math.isnan, (*a, *b))):
        return False
    return max(abs(m - n) for m, n in zip(a, b, strict=True)) > tolerance * max(a[0], b[0])


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Inside the block torch's generators start from this seed; afterwards they are where they were."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
