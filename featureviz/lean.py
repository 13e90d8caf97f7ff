"""Lean copies of a model: made when asked for, checked against it, and made again when its weights have changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from featureviz.copying import private_copy
from featureviz.errors import ModelError, out_of_memory
from featureviz.folding import NORMS, folded, keep_float32

if TYPE_CHECKING:
    from featureviz.model import TappedModel

KEPT = 8  # at once: each holds weights of its own

Key = tuple[tuple[str, ...], tuple[int, int], bool]


@final
class Lean:
    """The lean copies of ``model`` that were used last."""

    def __init__(self, model: TappedModel) -> None:
        self.model = model
        self.modules = list(model.net.modules())  # listed once: every step looks at them all
        statistics = [b for m in self.modules if isinstance(m, NORMS) for b in m.buffers(recurse=False)]
        self.tensors = [*model.net.parameters(), *statistics]  # what a copy may hold in another form
        self.sums = self._sums()
        self.copies: dict[Key, tuple[int, TappedModel]] = {}

    @property
    def hooked(self) -> bool:
        """Whether something looks into the network or changes what it does, on the way there or back."""
        return any(
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in self.modules
        )

    def notice(self) -> None:
        """Drop the copies if the weights are others than at the last look.

        A tensor counts what changes it, but neither ``.data`` nor a fused optimizer: so here their sums are compared.
        """
        sums = self._sums()
        if sums != self.sums:
            self.sums = sums
            self.copies.clear()

    def _sums(self) -> list[float]:
        wide = torch.float32 if self.model.device.type == "mps" else torch.float64
        floats = [t.detach().to(wide) for t in self.tensors if t.is_floating_point()]
        sums = [s for t in floats for s in (t.sum(), t.square().sum())]
        return torch.stack(sums).nan_to_num().tolist() if sums else []

    def of(self, layers: Sequence[str], read: Collection[str], size: tuple[int, int], half: bool) -> TappedModel:
        """The copy for these layers, which ``read`` these modules, and views of this size; or the model itself."""
        key, state = (tuple(layers), size, half), sum(t._version for t in self.tensors)
        version, twin = self.copies.pop(key, (-1, self.model))
        if version != state:
            twin = self._made(layers, size, read)
            if half and twin is not self.model:
                keep_float32(twin.net, self.model.gates.values(), list(self.model.check()))
        self.copies[key] = state, twin  # now the one used last
        while len(self.copies) > KEPT:
            del self.copies[next(iter(self.copies))]
        return twin

    def _made(self, layers: Sequence[str], size: tuple[int, int], read: Collection[str]) -> TappedModel:
        try:
            return self._checked(layers, size, read, 2)  # one image can be viewed in ways that two cannot
        except RuntimeError:  # memory, or the network, has room for one alone; whatever else it is comes again
            return self._checked(layers, size, read, 1)

    @torch.no_grad()
    def _checked(self, layers: Sequence[str], size: tuple[int, int], read: Collection[str], n: int) -> TappedModel:
        """The leanest copy that gives the same activations on ``n`` images of noise, and gradients at all."""
        model, x, everything = self.model, self.model.probe(n, size), dict(self.model.net.named_modules())
        exact = in_float64 if model.device.type != "cpu" else lambda model: model  # a GPU's float32 keeps ten bits
        activations = exact(model)(x, layers)
        mine = [activations[name].float() for name in layers]
        for last, keep in ((last, keep) for keep in (read, everything) for last in layouts(model.device)):
            try:
                net = folded(model.net, lambda: model(x[:1], layers), keep, channels_last=last)
                twin = copy.deepcopy(model, {id(model.enter): model.enter, id(model.net): net})
                wide = exact(twin)
                theirs = with_slope(lambda x, wide=wide: list(map(wide(x, layers).__getitem__, layers)), x)
            except ModelError:  # it cannot be copied a second time, or takes maps of one layout only
                continue
            except RuntimeError as error:  # in place it overwrites what a gradient needs, as the original does
                if out_of_memory(error):
                    raise
                continue
            if all(bool((a - b).abs().max() < 1e-4 * a.abs().max()) for a, b in zip(mine, theirs, strict=False)):
                return twin  # not ``<=``: maps of zeros prove nothing
        return model


def layouts(device: torch.device) -> tuple[bool, ...]:
    """Whether to try channels last, in the order of preference."""
    return (True, False) if device.type == "cpu" else (False,)


def in_float64(model: TappedModel) -> TappedModel:
    """A copy whose convolutions and matrix products are exact to the fifth digit on any device."""
    return copy.deepcopy(model, {id(model.enter): model.enter, id(model.net): private_copy(model.net)}).double()


@torch.enable_grad()
def with_slope(run: Callable[[Tensor], Sequence[Tensor]], x: Tensor) -> list[Tensor]:
    """What it gives for x, and a gradient in x, where a ``detach`` that got lost would show."""
    x = x.detach().requires_grad_()
    given = run(x)
    energy = sum((a.float().square().sum() for a in given if a.requires_grad), torch.zeros((), device=x.device))
    slope = torch.autograd.grad(energy, x, allow_unused=True)[0] if energy.requires_grad else None
    return [a.detach().float() for a in (*given, torch.zeros_like(x) if slope is None else slope)]
