"""Fused copies of a model: made when needed, compared with the network, and made again for new weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import ModelError, out_of_memory
from featureviz.network.copies.running import RunningCopy
from featureviz.network.execution.compiled import with_gradient
from featureviz.network.execution.fused import NORMS, fuse
from featureviz.network.execution.precision import keep_float32
from featureviz.network.model import TappedModel
from featureviz.network.taps import Tap

KEPT = 8  # copies kept at once: each holds weights of its own
CLOSE = 1e-4  # of the largest activation: how closely a copy must agree with the network

Key = tuple[tuple[str, ...], tuple[int, int], bool]


@final
@dataclass(frozen=True)
class Prepared:
    """A network that is ready to be copied and run, and its compiled programs by shape. It is never hooked itself."""

    running: RunningCopy
    fused: bool
    weights: list[float]  # sums that differ where weights differ
    programs: dict[Any, Any] = field(default_factory=dict)


@final
class FusedCopies:
    """The fused copies of ``model`` that were used last, at most eight."""

    def __init__(self, model: TappedModel) -> None:
        self.model = model
        norms = [m for m in model.net.modules() if isinstance(m, NORMS)]
        self._tensors = [*model.net.parameters(), *(b for m in norms for b in m.buffers(recurse=False))]
        self._copies: dict[Key, Prepared] = {}

    def prepared(
        self, layers: Sequence[str], taps: Mapping[str, Tap], size: tuple[int, int], *, half: bool
    ) -> Prepared:
        """The copy for these layers and for views of this size; the network itself, if no copy agrees with it."""
        key, weights = (tuple(layers), size, half), self._sums()
        if half:
            _ = self.model.gates  # this comes first, because it may patch the network
        found = self._copies.pop(key, None)
        if found is None or found.weights != weights:
            found = self._make(taps, size, half, weights)
        self._copies[key] = found  # the one used last is at the end
        while len(self._copies) > KEPT:
            self._copies.pop(next(iter(self._copies)), None)
        return found

    def _sums(self) -> list[float]:
        """Sums of the weights and of their squares. (The version of a tensor does not count all changes.)"""
        wide = torch.float32 if self.model.device.type == "mps" else torch.float64
        floats = [t.detach().to(wide) for t in self._tensors if t.is_floating_point()]
        sums = [s for t in floats for s in (t.sum(), t.square().sum())]
        return torch.stack(sums).nan_to_num().tolist() if sums else []

    def _make(self, taps: Mapping[str, Tap], size: tuple[int, int], half: bool, weights: list[float]) -> Prepared:
        try:
            running = self._checked(taps, size, 2)  # a reshape may work for one image and fail for two
        except RuntimeError:  # there may be room for one image only; any other error is raised again
            running = self._checked(taps, size, 1)
        if running is None:
            return Prepared(self.model.running, False, weights)
        if half:
            keep_float32(running.net, self.model.gates.values(), list(self.model.check()))
        return Prepared(running, True, weights)

    @torch.no_grad()
    def _checked(self, taps: Mapping[str, Tap], size: tuple[int, int], n: int) -> RunningCopy | None:
        """The first copy that gives the same activations on ``n`` images of noise, and that has a gradient."""
        original, x = self.model.running, self.model.noise_images(n, size)
        exact = in_float64 if x.device.type == "cuda" else RunningCopy.twin  # its float32 products keep ten bits
        try:
            mine = _reader(exact(original), taps)(x)
        except ModelError:
            _reader(original.twin(), taps)(x)  # the network's own errors are raised here
            return None  # it runs in float32 only, so no copy can be compared with it
        everything, read = set(dict(original.net.named_modules())), {tap.module for tap in taps.values()}
        for channels_last, keep in ((last, keep) for keep in (read, everything) for last in memory_formats(x.device)):
            try:
                net = fuse(original.net, lambda net: _reader(original.twin(net), taps)(x[:1]), keep,
                            channels_last=channels_last)  # fmt: skip
                twin = original.twin(net)
                theirs = with_gradient(_reader(exact(twin), taps), x)
            except ModelError:  # the network cannot be copied again, or needs maps of one memory format
                continue
            except RuntimeError as error:  # a ReLU in place overwrites what the gradient needs, as in the original
                if out_of_memory(error):
                    raise
                continue
            if all(bool((a - b).abs().max() < CLOSE * a.abs().max()) for a, b in zip(mine, theirs, strict=False)):
                return twin  # ``<`` and not ``<=``, because maps of zeros prove nothing
        return None


def memory_formats(device: torch.device) -> tuple[bool, ...]:
    """Whether to try channels last, in the order of preference."""
    return (True, False) if device.type == "cpu" else (False,)


def in_float64(running: RunningCopy) -> RunningCopy:
    """A copy whose convolutions and matrix products are exact to the fifth digit on any device."""
    twin = running.twin()
    if isinstance(twin.forward_fn, nn.Module):
        twin.forward_fn = copy.deepcopy(twin.forward_fn)  # it is the caller's
    twin.dtype = torch.float64
    return twin.double()


def _reader(running: RunningCopy, taps: Mapping[str, Tap]) -> Callable[[Tensor], list[Tensor]]:
    def read(x: Tensor) -> list[Tensor]:
        taken = running.read(x, taps)
        return [taken[name].float() for name in taps]

    return read
