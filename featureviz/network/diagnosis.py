"""Why a network fails on an image, or passes no gradient to it, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from featureviz.errors import ModelError
from featureviz.network.taps import Reached, find_tensor, first_argument, hide_from_modes

_SIZE = "give a larger size, or the one that the network wants: wrap(net, size=...), --input"
_CALL = "if it is not called as net(image), give wrap(net, forward_fn=lambda net, x: ...)"
_CAUSES = {  # what torch or Python says, and the remedy
    r"missing (\d+|the) required|positional argument|unexpected keyword|(must be|expected) .*(list|dict)": _CALL,
    r"more than 1 (spatial|value per channel)": (
        "a batch norm without running statistics computes them from its input, which is a single value here: give the"
        " network running statistics, or tap a layer before it"
    ),
    r"quantized|QuantizedCPU": "quantized layers cannot be climbed: wrap the float network",
    r"meta tensor|device meta|meta device": "the weights are on the meta device, where they have no numbers: load them",
    r"same device|device type": "move the whole network to one device before it is wrapped",
    r"same dtype|scalar type|Input type|dtype": "its layers have different dtypes: convert it, net.float()",
    r"cannot be multiplied|Kernel size|[Oo]utput size|[Ii]nput size|[Ww]rong (image|input)|doesn't match model"
    r"|is invalid for input of size|must match|height|width|divisible": _SIZE,
}


def explain_failure(name: str, net: nn.Module, x: Tensor, failure: Exception, where: str = "") -> ModelError:
    """The error for a network that fails on x, and at which point (``where``), with the remedy for its cause."""
    said = f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
    channels = re.search(r"to have (\d+) channels, but got (\d+) channels", said)
    if x.is_meta or any(p.is_meta for p in net.parameters()):
        remedy = _CAUSES[r"meta tensor|device meta|meta device"]
    elif channels and int(channels[2]) == x.shape[1]:
        remedy = f"it takes images of {channels[1]} channels: wrap(net, channels={channels[1]})"
    else:
        remedy = next((text for pattern, text in _CAUSES.items() if re.search(pattern, said)), "")
    remedy = remedy or f"this is the network's own error; if it wants another input, {_SIZE}; {_CALL}"
    return ModelError(f"{name}'s forward failed on {list(x.shape)}{' ' + where if where else ''}: {said}\n{remedy}")


@torch.enable_grad()
def explain_missing_gradient(net: nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> str:
    """Where the gradient between x and what ``run(x)`` reads is lost. The network is thrown away afterwards.

    >>> net = nn.Sequential(nn.Identity(), nn.Flatten())
    >>> net[1].register_forward_hook(lambda module, args, output: output.detach()) and None
    >>> explain_missing_gradient(net, net, torch.rand(1, 3, 4, 4))
    "its Flatten '1' cuts the gradient off, as detach, rounding and argmax do"
    """
    found: list[str] = []

    def note(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        with hide_from_modes():
            given, made = find_tensor(first_argument(args, kwargs)), find_tensor(output)
        who = f"its {type(module).__name__} {path!r}" if path else "it"
        if found or given is None or made is None or made.requires_grad:
            return
        if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
            found.append(
                f"{who} runs without gradients (torch.no_grad, inference_mode or a reentrant checkpoint in the forward"
                " around it): take that away, or wrap the part of the network that runs with gradients"
            )
        elif given.requires_grad:
            found.append(f"{who} cuts the gradient off, as detach, rounding and argmax do")

    for path, module in net.named_modules():
        module.register_forward_hook(partial(note, path), with_kwargs=True)
    with suppress(Reached):
        run(x.detach().requires_grad_())
    kinds = {type(m).__module__ for m in net.modules()}
    if not found and any("quantized" in kind for kind in kinds):
        return "it has quantized layers, which pass no gradient: wrap the float network"
    return found[0] if found else ""
