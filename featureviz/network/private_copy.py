"""A network of one's own over weights that belong to someone else."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput, ModelError

WAS_INPLACE = "featureviz_was_inplace"  # set on modules of a private copy that were in place in the original


def private_copy(net: nn.Module) -> nn.Module:
    """A copy in eval mode, frozen, without in-place modules, whose weights share the original's memory."""
    if not isinstance(net, nn.Module):
        raise InvalidInput(f"a {type(net).__name__} was given; expected an nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise ModelError(f"{type(net).__name__} holds TorchScript, which cannot be looked into; pass the Python module")
    twin = shared_copy(net)
    for module in twin.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010 - otherwise it overwrites what a tap has read
            setattr(module, WAS_INPLACE, True)
    return twin.eval().requires_grad_(False)


@torch.inference_mode(False)  # tensors made in it could not be differentiated through
def shared_copy(net: nn.Module) -> nn.Module:
    """A copy of all modules, with their modes and hooks, whose weights share the original's memory."""
    shared: dict[int, Any] = {id(p): nn.Parameter(_same_memory(p), requires_grad=False) for p in net.parameters()}
    shared |= {id(b): _same_memory(b) for b in net.buffers()}
    try:
        return copy.deepcopy(net, shared)
    except Exception as error:
        raise ModelError(
            f"{type(net).__name__} cannot be copied ({error}); keep non-leaf tensors out of its attributes, or pass a"
            " freshly built network"
        ) from error


def _same_memory(tensor: Tensor) -> Tensor:
    """The same memory, or a copy of what was made in inference mode and can never take part in a gradient."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()
