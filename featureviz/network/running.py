"""One copy of a network that runs: normalise, call, read at the taps, leave at the last of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, final

from torch import Tensor, nn

from featureviz.errors import FeaturevizError, ModelError, out_of_memory
from featureviz.network.private_copy import shared_copy
from featureviz.network.redirect import Redirection
from featureviz.network.taps import INPUT, OUTPUT, Reached, Tap, hooked

ForwardFn = Callable[[nn.Module, Tensor], Any]


@final
class RunningCopy(nn.Module):
    """A network with modules of its own, over weights that it shares: ``forward_fn(net, (x - mean) / std)``.

    ``mean`` and ``std`` are ``[1,C,1,1]``. Without ``forward_fn`` the call is ``net(...)``. Hooks are set on a twin,
    which is thrown away. So threads do not disturb each other, and no hook has to be removed.
    """

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor, forward_fn: ForwardFn | None, name: str) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, nn.Buffer(mean), nn.Buffer(std)
        self.forward_fn, self.name = forward_fn, name

    def twin(self, net: nn.Module | None = None) -> RunningCopy:
        """Another copy, with modules of its own: those of ``net``, or copies of this one's."""
        net = shared_copy(self.net) if net is None else net
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
            raise failed(self.name, x, error) from error

    def call(self, x: Tensor, *, redirect: bool = False) -> Any:
        """As ``forward``, with the network's own errors."""
        parameter = next(self.net.parameters(), self.mean)
        x = ((x - self.mean) / self.std).to(parameter.dtype)
        with Redirection() if redirect else nullcontext():
            return self.net(x) if self.forward_fn is None else self.forward_fn(self.net, x)

    def read(
        self, x: Tensor, taps: Mapping[str, Tap], layers: Sequence[str] = (), *, redirect: bool = False
    ) -> dict[str, Tensor]:
        """What passes each tap, in order of running; the network is left at the last one.

        ``layers`` may add ``"input"``, which is x itself, and ``"output"``, for which the network runs to its end.
        """
        taken = {INPUT: x} if INPUT in layers else {}
        whole, read = OUTPUT in layers, set[str]()

        def take(name: str, tensor: Any) -> None:
            if not isinstance(tensor, Tensor):
                raise ModelError(f"layer {name!r} gives a {type(tensor).__name__}, not a tensor; tap a layer inside it")
            read.add(name)
            last = not whole and len(read) == len(taps)
            tensor = taps[name].reshape(tensor)
            taken[name] = tensor if last else tensor.clone()  # what runs on may overwrite it in place
            if last:
                raise Reached

        if not taps and not whole:
            return taken
        with hooked(self.net, taps, take):
            try:
                output = self(x, redirect=redirect)
            except Reached:
                return taken
        return taken | {OUTPUT: _logits(output)} if whole else taken

    @property
    def hooked(self) -> bool:
        """Whether something looks into the network or changes what it does."""
        return any(
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
            for m in self.net.modules()
        )


def failed(name: str, x: Tensor, failure: Exception, where: str = "") -> ModelError:
    """The error for a network that fails on x, and at which point (``where``)."""
    return ModelError(
        f"{name}'s forward failed on {list(x.shape)}{' ' + where if where else ''}:"
        f" {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
        "\nif the network wants another input, give a larger size (wrap(net, size=...), --input); if it is not"
        " called as net(x), give wrap(net, forward_fn=...)"
    )


def _logits(output: Any) -> Tensor:
    for candidate in (output, getattr(output, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    raise ModelError(
        f"the network returns a {type(output).__name__}; give wrap(net, forward_fn=...) that returns a tensor"
    )
