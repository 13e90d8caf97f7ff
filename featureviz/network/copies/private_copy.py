"""A network of one's own over weights that belong to someone else."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from featureviz.errors import InvalidInput, ModelError
from featureviz.network.copies.closures import Memo, Rebound, reachable, share_what_refuses
from featureviz.network.surroundings import no_inference

WAS_INPLACE = "featureviz_was_inplace"  # set on modules of a private copy that were in place in the original


def private_copy(net: nn.Module) -> nn.Module:
    """A copy in eval mode, frozen, without in-place modules. Weights and buffers share the original's memory.

    It is copied again before it runs, because a forward may write to buffers.
    """
    if not isinstance(net, nn.Module):
        raise InvalidInput(f"a {type(net).__name__} was given; expected an nn.Module")
    net = _unwrapped(net)
    name = type(net).__name__
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise ModelError(f"{name} holds TorchScript, which cannot be looked into; pass the Python module")
    lazy = next((n for n, t in [*net.named_parameters(), *net.named_buffers()] if is_lazy(t)), None)
    if lazy is not None:
        raise ModelError(f"{name}'s {lazy!r} has no shape yet; run the network once on an image, then wrap it")
    twin = shared_copy(net)
    for module in twin.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010 - otherwise it overwrites what a tap has read
            setattr(module, WAS_INPLACE, True)
    return twin.eval().requires_grad_(False)


def shared_copy(net: nn.Module, *, own_buffers: bool = False) -> nn.Module:
    """A copy of all modules, with their modes and hooks, whose weights share the original's memory.

    With ``own_buffers`` the buffers do not. Functions that hold modules of the network are made again for the copy.
    """
    with no_inference():
        twin = _copy_modules(net, own_buffers)
    shared = {id(m) for m in net.modules()} & {id(m) for m in twin.modules()}
    if shared:
        name = next(type(m).__name__ for m in net.modules() if id(m) in shared)
        raise ModelError(
            f"{name} cannot be copied: copy.deepcopy gives the module itself, so a render would run and change it;"
            f" remove {name}.__deepcopy__, or let it return a new module"
        )
    return twin


def _copy_modules(net: nn.Module, own_buffers: bool) -> nn.Module:
    memo: Memo = {id(p): nn.Parameter(_same_memory(p), requires_grad=False) for p in net.parameters()}
    memo |= {id(b): _same_memory(b).clone() if own_buffers else _same_memory(b) for b in net.buffers()}
    # A tensor that was computed, such as a stored feature or the weight under weight norm, cannot be copied with its
    # history; the copy gets the numbers.
    things = reachable(net)
    computed = [t for t in things if isinstance(t, Tensor) and t.grad_fn is not None]
    memo |= {id(t): t.detach().clone() for t in computed if id(t) not in memo}
    functions = Rebound(things, memo)
    try:
        try:
            twin = copy.deepcopy(net, done := dict(memo))
        except Exception:  # an attribute that refuses, in any way it likes
            share_what_refuses(net, memo)
            twin = copy.deepcopy(net, done := dict(memo))
    except Exception as error:
        raise ModelError(f"{type(net).__name__} cannot be copied: {type(error).__name__}: {error}") from error
    functions.fill(done)
    return twin


def take_buffers(net: nn.Module, origin: nn.Module, *, copies: bool = False) -> None:
    """Let the modules of ``net``, a copy with buffers of its own, use the buffers of ``origin`` again, or copies."""
    modules = dict(origin.named_modules())
    for path, module in net.named_modules():
        buffers = modules[path]._buffers if path in modules else {}
        for name in module._buffers.keys() & buffers.keys():
            buffer = buffers[name]
            module._buffers[name] = buffer.clone() if copies and buffer is not None else buffer


def _unwrapped(net: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` or ``DataParallel``, whose forwards cannot be hooked."""
    while True:
        if isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        elif isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            net = net.module
        else:
            return net


def _same_memory(tensor: Tensor) -> Tensor:
    """The same memory, or a copy of what was made in inference mode and can never take part in a gradient."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()
