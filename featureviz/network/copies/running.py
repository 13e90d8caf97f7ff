"""One copy of a network that runs: normalise, call, read at the taps, leave at the last of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final
from weakref import ref

import torch
from torch import Tensor, nn

from featureviz.errors import FeaturevizError, ModelError, out_of_memory
from featureviz.network.axes import IMAGE_AXES
from featureviz.network.copies.gradients import OtherGradients
from featureviz.network.copies.private_copy import shared_copy
from featureviz.network.copies.redirect import Redirection
from featureviz.network.copies.split_attention import split_attention
from featureviz.network.diagnosis import explain_failure
from featureviz.network.surroundings import modes_kept, no_autocast
from featureviz.network.taps import IMAGE, RETURNED, Reached, Tap, find_tensor, hooked

ForwardFn = Callable[[nn.Module, Tensor], Any]


@final
class RunningCopy(nn.Module):
    """A network with modules and buffers of its own, over weights that it shares.

    It computes ``forward_fn(net, (x - mean) / std)``; ``mean`` and ``std`` are ``[1,C,1,1]``. Without ``forward_fn``
    the call is ``net(...)``. Hooks are set on a twin,
    which is thrown away. So threads do not disturb each other, and no hook has to be removed.

    ``dtype`` is that of the layer which gets the image. ``alone`` says that views must go through one at a time,
    because the network would mix them, or decides by their values which layers run. ``autocasts`` puts the
    network under an autocast to bfloat16. ``owner`` refers to the tensors of the caller's network.
    """

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor, forward_fn: ForwardFn | None, name: str) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, nn.Buffer(mean), nn.Buffer(std)
        self.forward_fn, self.name = forward_fn, name
        self.dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
        self.alone = self.autocasts = False
        self.gradients: frozenset[str] = frozenset()  # other ones than the network's own, see ``gradients``
        self.owner: list[ref[Tensor]] = []

    def foreign(self) -> list[Tensor]:
        """Weights and buffers of the caller's network and of this copy, which no twin may use."""
        owned = (tensor for reference in self.owner if (tensor := reference()) is not None)
        return [*owned, *self.net.parameters(), *self.net.buffers()]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"owner": []}  # a weak reference cannot be pickled

    def twin(self, net: nn.Module | None = None) -> RunningCopy:
        """Another copy, with modules and buffers of its own: those of ``net``, or copies of this one's."""
        net = shared_copy(self.net, own_buffers=True) if net is None else net
        twin = copy.copy(self)
        twin.__dict__.update(_modules=dict(self._modules), _buffers=dict(self._buffers))
        twin.net = net
        return twin

    def forward(self, x: Tensor, *, redirect: bool = False) -> Any:
        """What the network returns for ``[M,C,H,W]`` in [0,1]; its errors become ``ModelError``."""
        try:
            return self.call(x, redirect=redirect)
        except Exception as error:  # the network's own, whatever it is
            if isinstance(error, FeaturevizError) or out_of_memory(error):
                raise
            raise explain_failure(self.name, self.net, x, error) from error

    def call(self, x: Tensor, *, redirect: bool = False) -> Any:
        """As ``forward``, with the network's own errors."""
        with modes_kept(), self._autocast(x.device.type):
            x = ((x - self.mean) / self.std).to(self.dtype)
            other = [OtherGradients(self.gradients)] if self.gradients else []
            with modes_kept(*([Redirection()] if redirect else []), *other) if redirect or other else nullcontext():
                return self._run(x)

    def read(self, x: Tensor, taps: Mapping[str, Tap], *, redirect: bool = False) -> dict[str, Tensor]:
        """What passes each tap, in order of running; the network is left at the last one."""
        if not self.alone or len(x) == 1:
            return self._read(x, taps, redirect)
        rows = [self._read(row, taps, redirect) for row in x.split(1)]
        return {name: (taps[name].axes or IMAGE_AXES).join([row[name] for row in rows]) for name in rows[0]}

    def _read(self, x: Tensor, taps: Mapping[str, Tap], redirect: bool) -> dict[str, Tensor]:
        taken: dict[str, Tensor] = {}

        def take(name: str, tensor: Tensor, stays: bool) -> None:
            taken[name] = tensor if stays else tensor.clone()

        self.stream(x, taps, take, redirect=redirect)
        return taken

    def stream(
        self, x: Tensor, taps: Mapping[str, Tap], take: Callable[[str, Tensor, bool], None], *, redirect: bool = False
    ) -> None:
        """Call ``take(name, tensor, stays)`` for what passes each tap; the network is left at the last one.

        Unless the tensor ``stays``, what runs on may overwrite it in place. So what is not kept needs no memory.
        A network whose views must go ``alone`` gets one view at a time from the caller.
        """
        for name in (name for name, tap in taps.items() if tap.module == IMAGE):
            take(name, x, True)
        returned = [name for name, tap in taps.items() if tap.module == RETURNED]
        inside = {name: tap for name, tap in taps.items() if tap.module not in (IMAGE, RETURNED)}
        whole = bool(returned) or self.alone  # run to the end, to see that no layer runs once more
        read = set[str]()

        def pass_on(name: str, output: Any) -> None:
            if name in read:
                raise ModelError(
                    f"layer {name!r} ran more often for this picture than for the noise from which {self.name} was"
                    " learnt, so its activation is ambiguous; tap a module before or after it"
                )
            read.add(name)
            last = not whole and len(read) == len(inside)
            take(name, inside[name].reshape(_tensor_of(name, output)), last)
            if last:
                raise Reached

        if not inside and not returned:
            return
        for tap in inside.values():
            if tap.splits:
                split_attention(self.net, tap.splits)
        with hooked(self.net, inside, pass_on):
            try:
                output = self(x, redirect=redirect)
            except Reached:
                return
        self._check_all_ran([name for name in inside if name not in read])
        for name in returned:
            take(name, _tensor_of(name, output), True)

    def _check_all_ran(self, missing: Sequence[str]) -> None:
        if missing:
            raise ModelError(
                f"layer {missing[0]!r} did not run for this picture, though it did for noise: {self.name} decides by"
                " the picture which layers run; tap a module that always runs"
            )

    def _run(self, x: Tensor) -> Any:
        return self.net(x) if self.forward_fn is None else self.forward_fn(self.net, x)

    def _autocast(self, device_type: str) -> AbstractContextManager[Any]:
        if device_type == "meta":
            return nullcontext()
        return torch.autocast(device_type, torch.bfloat16) if self.autocasts else no_autocast(device_type)

    @property
    def hooked(self) -> bool:
        """Whether something looks into the network or changes what it does."""
        return any(
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
            for m in self.net.modules()
        )


def _tensor_of(name: str, output: Any) -> Tensor:
    tensor = find_tensor(output)
    if tensor is None:
        raise ModelError(
            f"{name!r} gives a {type(output).__name__} in which no tensor stands first; tap a layer inside it, or give"
            " wrap(net, forward_fn=...) that returns a tensor"
        )
    if tensor.is_complex():
        raise ModelError(f"{name!r} gives complex numbers; tap a layer that gives real ones, or give a forward_fn")
    return tensor
