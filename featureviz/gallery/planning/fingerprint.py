"""The fingerprint of a network: a hash of all of it that decides what a picture looks like."""

from __future__ import annotations

import hashlib
import re

import torch

from featureviz.network.in_force import interventions_on
from featureviz.network.model import TappedModel, tapped

_DIGITS = 32


def take_fingerprint(model: TappedModel) -> str:
    """A hash of the modules with their settings, of all weights and buffers, and of how images are normalised.

    Interventions that are in force count too. The device and the name of the network do not.
    """
    model = tapped(model)
    gates = list(model.gates)  # found before the network is read, because discovery may patch it
    digest = hashlib.sha256()
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(model.net)).encode(errors="surrogatepass"))
    numbers = {"mean": model.running.mean, "std": model.running.std}
    numbers |= dict(model.net.named_parameters(remove_duplicate=False))
    numbers |= dict(model.net.named_buffers(remove_duplicate=False))
    for name, tensor in sorted(numbers.items()):
        if name.endswith("num_batches_tracked"):  # batch norm counts its training batches; no picture depends on it
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(errors="surrogatepass"))
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    interventions = [intervention.text for intervention in interventions_on(model.key)]
    forward = getattr(model.running.forward_fn, "__qualname__", None)
    settings = (gates, model.size, model.channels, forward, interventions)
    digest.update(repr(settings).encode(errors="surrogatepass"))
    return digest.hexdigest()[:_DIGITS]
