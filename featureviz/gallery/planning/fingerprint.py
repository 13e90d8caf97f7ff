"""The fingerprint of a network: a hash of all of it that decides what a picture looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel, tapped

_DIGITS = 32
_PLAIN = (bool, int, float, str, tuple, list, type(None))


def take_fingerprint(model: TappedModel) -> str:
    """A hash of the modules with their settings, of all weights and buffers, and of how images are normalised.

    The axes, labels and dictionaries that the model was given, and interventions that are in force, count too. The
    device and the name of the network do not. Code cannot be hashed: a changed ``forward`` is not seen.
    """
    model = tapped(model)
    gates = list(model.gates)  # found before the network is read, because discovery may patch it
    digest = hashlib.sha256()

    def add(*values: Any) -> None:
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(values))
        digest.update(text.encode(errors="surrogatepass"))

    forward = getattr(model.running.forward_fn, "__qualname__", None)
    dictionaries = sorted((name, layer, repr(made)) for name, (layer, made) in model.dictionaries.items())
    add(model.net, gates, model.size, model.channels, forward, sorted(model.axes.items()), model.labels, dictionaries)
    add([intervention.text for intervention in interventions_on(model.key)])
    numbers = {"mean": model.running.mean, "std": model.running.std}
    for path, module in model.net.named_modules(remove_duplicate=False):
        add(path, type(module).__qualname__, sorted(_list_settings(module)))
        numbers |= {f"{path}.{name}": tensor for name, tensor in _list_tensors(module)}
    for name, tensor in numbers.items():
        add(name, tensor.dtype, list(tensor.shape))
        digest.update(_to_plain(tensor.detach()).cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_DIGITS]


def _list_settings(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The plain values that a module keeps as attributes; its text need not name all of them."""
    for name, value in vars(module).items():
        if isinstance(value, _PLAIN) and not name.startswith("_") and name != "training":
            yield name, repr(value)


def _list_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights, buffers, and tensors that are mere attributes."""
    for found in (module._parameters, module._buffers, vars(module)):
        for name, tensor in sorted(found.items()):
            # Batch norm counts its training batches; no picture depends on it.
            if isinstance(tensor, Tensor) and name != "num_batches_tracked":
                yield name, tensor


def _to_plain(tensor: Tensor) -> Tensor:
    """A sparse or quantised tensor as an ordinary one."""
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
