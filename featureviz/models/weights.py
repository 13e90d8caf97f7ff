"""Weights of a network: random, downloaded or from a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from featureviz.errors import FeaturevizError, InvalidInput, ModelError
from featureviz.models.checkpoint import load_checkpoint

Weights = str | os.PathLike[str] | None
DEFAULT = "default"


def build(name: str, make: Callable[[bool], nn.Module], weights: Weights) -> nn.Module:
    """``make(pretrained)`` with its library's weights, with random ones (None), or with those of a file.

    Torch's global random numbers decide what random weights are, but are not used up. The weights are float32, and are
    the same on every default device, to which they are moved; a network on ``meta`` would have none, so it stays on the
    CPU.

    Raises:
        InvalidInput: ``weights`` is neither a path nor None, or there is no such file.
        ModelError: the network cannot be built, or its weights cannot be downloaded or read, or do not fit.
    """
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise InvalidInput(
            f"weights of type {type(weights).__name__} were given; expected a path, 'default' to download them, or None"
        )
    place = torch.get_default_device()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), _float32_by_default():
        net = _make_pretrained(name, make) if weights == DEFAULT else _make_random(name, make)
    if weights is not None and weights != DEFAULT:
        load_checkpoint(net, weights)
    return net if place.type == "meta" else net.to(place)


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """The caller's default type, which holds for all threads, is changed only where it is another one."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _make_random(name: str, make: Callable[[bool], nn.Module]) -> nn.Module:
    try:
        return make(False)
    except FeaturevizError:
        raise
    except Exception as error:  # an unknown tag after the dot, or an unknown option
        raise ModelError(f"{name} cannot be built: {error}; leave out its tag or its options") from error


def _make_pretrained(name: str, make: Callable[[bool], nn.Module]) -> nn.Module:
    try:
        return make(True)
    except FeaturevizError:
        raise
    except Exception as error:  # every hub has errors of its own
        _make_random(name, make)  # if this fails too, the weights are not the cause
        what = "downloaded" if isinstance(error, OSError) else "used"
        raise ModelError(
            f"the weights of {name} cannot be {what} ({type(error).__name__}: {error}); give weights=PATH to a"
            " state dict that you have (--weights PATH), or weights=None for random ones (--weights none)"
        ) from error
