"""Units of a layer compared by the weights that make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from featureviz.checks import whole
from featureviz.errors import ModelError
from featureviz.lab.gates.weights import gate_weights
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.units.neighbours import Neighbour, nearest_units
from featureviz.network.activations import Rows
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import BOTTLENECK, GATE

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def nearest_by_weight(model: TappedModel, layer: str, unit: int, k: int = 5) -> list[Neighbour]:
    """The ``k`` units of a layer whose weights are most similar to those of ``unit``; see ``weight_similarity``.

    >>> import featureviz as fv
    >>> [neighbour.unit for neighbour in nearest_by_weight(fv.load("embedded"), "features.0", 3, k=2)]
    [9, 4]
    """
    similarity = weight_similarity(model, layer)
    unit, k = whole("unit", unit), whole("k", k, 1)
    check_units(layer, [unit], len(similarity))
    return nearest_units(similarity[unit], torch.arange(len(similarity), device="cpu"), unit, k)


@own_surroundings
def weight_similarity(model: TappedModel, layer: str) -> Tensor:
    """The cosine ``[C,C]`` of the weights that make every two units of a layer.

    These are the weights of the last convolution or linear layer that runs before the layer is read; those inside gates
    do not count. A normalisation after it that turns the sign of a unit turns the sign of its cosines. Of the gates
    ``"gate:SITE"`` they are the rows of the block's second layer, of ``"bottleneck:SITE"`` those of the first. Units of
    different groups of a convolution share no input: their cosine is 0. Modules after the convolution must keep the
    order of the channels, as activations, poolings and normalisations do. Of a sum, as in a residual block, only the
    branch that ran last counts.

    Raises:
        ModelError: no such weights are found, they make another number of units, or each unit has an input of its own.
    """
    for prefix, name in ((GATE, "w2"), (BOTTLENECK, "w1")):
        if isinstance(layer, str) and layer.startswith(prefix) and layer.removeprefix(prefix) in tapped(model).gates:
            return _cosines(getattr(gate_weights(model, layer.removeprefix(prefix)), name))
    ran, units = _run_up_to(tapped(model), layer)
    signs = torch.ones(units, dtype=torch.float32, device="cpu")
    for name, module in reversed(ran):
        if isinstance(module, LINEAR):
            return _module_cosines(layer, units, name, module) * signs[:, None] * signs
        if isinstance(module, NORMS) and module.weight is not None and module.weight.numel() == units:
            signs = signs * module.weight.detach().float().cpu().sign()
        elif any(p.squeeze().ndim > 1 for p in module.parameters(recurse=False)):
            raise ModelError(
                f"layer {layer!r} is made by {name!r}, a {type(module).__name__}; only weights of convolutions and"
                " linear layers can be compared"
            )
    raise ModelError(f"no convolution or linear layer runs before layer {layer!r}, so its units have no weights")


def _module_cosines(layer: str, units: int, name: str, module: nn.Module) -> Tensor:
    given: Any = module
    groups: int = getattr(given, "groups", 1)
    weight = given.weight.detach().float().cpu()
    if isinstance(module, TRANSPOSED):  # [in, out / groups, ...]
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    if len(weight) != units:
        raise ModelError(
            f"the last weights before layer {layer!r} are those of {name!r}, which make {len(weight)} units, not"
            f" {units}; take a layer that one convolution or linear layer makes"
        )
    if groups == units > 1:
        raise ModelError(
            f"each unit of layer {layer!r} reads one channel of its own (in {name!r}), so their weights cannot be"
            " compared; take the layer before it, or compare activations: UnitStatistics.nearest"
        )
    group = torch.arange(units, device="cpu") // (units // groups)
    return _cosines(weight.flatten(1)) * (group[:, None] == group)


def _cosines(weight: Tensor) -> Tensor:
    weight = F.normalize(weight, dim=1)
    return (weight @ weight.T).clamp(-1, 1)


def _run_up_to(model: TappedModel, layer: str) -> tuple[Sequence[tuple[str, nn.Module]], int]:
    """The modules with weights of their own or without children that end before the layer is read, and its units."""
    ran: list[tuple[str, nn.Module]] = []

    def note(name: str, module: nn.Module, *_: Any) -> None:
        ran.append((name, module))

    running, tap = model.isolated(), model.tap(layer)
    for name, module in running.net.named_modules():
        own = next(module.parameters(recurse=False), None)
        if name and (own is not None or not any(module.children())):
            module.register_forward_hook(partial(note, name))
    with torch.no_grad():
        read = running.read(model.noise_images(), {layer: tap})
    units = model.collect(read, {layer: tap}, Rows.make(1)).channels_first(layer).shape[1]
    names = [name for name, _ in ran]
    inside = set[int]()  # of gates, from the layer that reads the squeeze to the one that gives the value
    for site in model.gates.values():
        if site.gate in names:
            last = names.index(site.gate)
            first = names.index(site.fc1) if site.fc1 in names[:last] else last
            inside.update(range(first, last + 1))
    return [pair for i, pair in enumerate(ran) if i not in inside], units
