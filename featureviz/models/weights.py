"""Weights of a network: random, downloaded or from a file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featureviz.errors import FeaturevizError, ModelError

Weights = str | os.PathLike[str] | None
DEFAULT = "default"


def build(name: str, make: Callable[[bool], nn.Module], weights: Weights) -> nn.Module:
    """``make(pretrained)`` with its library's weights, with random ones (None), or with those of a file.

    Up to half of the tensors of a file may be missing, with a warning: a file of features has no classifier.
    """
    try:
        net = make(weights == DEFAULT)
    except FeaturevizError:
        raise
    except Exception as error:  # every hub has errors of its own
        if weights != DEFAULT:  # an unknown tag after the dot, or an unknown option
            raise ModelError(f"{name} cannot be built: {error}; leave out its tag or its options") from error
        raise ModelError(
            f"the weights of {name} cannot be downloaded ({type(error).__name__}: {error}); give weights=PATH to a"
            " state dict that you have (--weights PATH), or weights=None for random ones (--weights none)"
        ) from error
    if weights not in (None, DEFAULT):
        path = os.fspath(weights)
        _load_state(net, path, _read_state(path))
    return net


def _load_state(net: nn.Module, path: str, state: dict[str, Tensor]) -> None:
    own = net.state_dict()
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if wrong or len(missing) > len(own) // 2:
        raise ModelError(
            f"{path} does not fit {type(net).__name__}: {len(missing)} of {len(own)} tensors are missing, {len(wrong)}"
            f" have another shape, the first is {(wrong or missing)[0]!r}"
        )
    if missing:
        warnings.warn(
            f"{path} lacks {len(missing)} tensors, which stay random; the first is {missing[0]!r}", stacklevel=5
        )
    net.load_state_dict(state, strict=False)


def _read_state(path: str) -> dict[str, Tensor]:
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ModelError("reading .safetensors needs safetensors; pip install safetensors") from error
    except Exception as error:
        raise ModelError(
            f"cannot read weights from {path}: {error}; expected a state dict (.pt, .pth, .safetensors)"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a state dict, name to tensor")
    return content.get("state_dict", content)
