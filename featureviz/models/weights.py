"""Weights from files and from hubs, into a network."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import nn

from featureviz.errors import FeaturevizError, ModelError

Weights = str | os.PathLike[str] | None
DEFAULT = "default"


def created(label: str, create: Any, *args: Any, **options: Any) -> nn.Module:
    try:
        return create(*args, **options)
    except (RuntimeError, TypeError, ValueError) as error:  # an unknown tag behind the dot, or an unknown option
        raise ModelError(f"{label} cannot be made: {error}; leave out what follows its dot or question mark") from error


def downloaded(name: str, make: Any) -> nn.Module:
    try:
        return make()
    except FeaturevizError:
        raise
    except Exception as error:  # hubs fail in as many ways as there are hubs
        raise ModelError(
            f"the weights of {name} cannot be downloaded ({type(error).__name__}: {error}); give weights=PATH to a"
            " state dict that you have (--weights PATH), or weights=None for random ones (--weights none)"
        ) from error


def with_state(net: nn.Module, weights: Weights) -> nn.Module:
    if weights is None:
        return net
    path = os.fspath(weights)
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            read: Any = load_file(path)
        else:
            read = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ModelError("reading .safetensors needs safetensors; pip install safetensors") from error
    except Exception as error:
        raise ModelError(
            f"cannot read weights from {path}: {error}; expected a state dict (.pt, .pth, .safetensors)"
        ) from error
    if not isinstance(read, dict):
        raise ModelError(f"{path} holds a {type(read).__name__}; expected a state dict, name to tensor")
    state: dict[str, torch.Tensor] = read.get("state_dict", read)
    own = net.state_dict()
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if wrong or len(missing) > len(own) // 2:
        raise ModelError(
            f"{path} does not fit {type(net).__name__}: {len(missing)} of {len(own)} tensors are missing, {len(wrong)}"
            f" have another shape, first {(wrong or missing)[0]!r}"
        )
    if missing:
        warnings.warn(f"{path} lacks {len(missing)} tensors, which stay random, first {missing[0]!r}", stacklevel=4)
    net.load_state_dict(state, strict=False)
    return net
