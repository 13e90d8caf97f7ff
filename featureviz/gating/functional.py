"""The third tier: gates that a forward computes with bare functions, such as ``x * torch.sigmoid(z)``.

A tracer sees every torch function of a forward, and where the output of a squashing function scales a feature map. The
call that gives the gate's value, and the multiplication, are then patched on the model's private copy: small modules
take their place, at which taps and interventions work.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featureviz.errors import ModelError
from featureviz.gating.patch import Multiply, patch_call, remove_patches
from featureviz.gating.trace import SQUASH, ScaledMap, Tracer, strip_inplace
from featureviz.gating.verify import hook_modules, propose_site, read_taps
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.surroundings import modes_kept

TOLERANCE = 1e-3  # relative difference of a product before and after the patch; a wrong product differs by about 1


@torch.no_grad()
def find_functional(model: TappedModel, images: Tensor, known: Mapping[str, GateSite]) -> list[GateSite]:
    """The sites in ``model``'s forward that are not among the ``known`` ones.

    None are found in a forward that decides by the numbers of the image: on another image the call that was counted
    might be another one.
    """
    if model.looks_at_numbers:
        return []
    tracer = Tracer()
    with hook_modules(model.net, tracer.leave, tracer.enter), modes_kept(tracer):
        model.rerun(images)
    runs = {name: layer.calls for name, layer in model.check().items()}
    gates = {site.gate for site in known.values()}
    sites: dict[str, GateSite] = {}
    before: dict[str, Tensor] = {}
    for call, scaled in {scaled.call: scaled for scaled in tracer.scaled_maps}.items():
        if call.path is None or scaled.gate.maker in gates or (scaled.whole and call.path in known):
            continue
        site = _patch_site(model, scaled, runs, call.path in known or call.path in sites)
        sites[site.name], before[site.name] = site, site.y.reshape(scaled.y_copy)
    model.forget_layers()
    if sites and not _is_unchanged(model, images, sites, before):
        remove_patches(model.net)
        model.forget_layers()
        return []
    return list(sites.values())


def _patch_site(model: TappedModel, scaled: ScaledMap, runs: Mapping[str, int], taken: bool) -> GateSite:
    """The site of a scaled map, after the patches that it needs.

    ``taken`` says that another gate has the name of its block.
    """
    call, gate, net = scaled.call, scaled.gate, model.net
    assert call.path is not None
    order, found, block = (1, 0) if scaled.second else (0, 1), "functional", call.path
    source = gate.maker or gate.call.path or ""
    alone = runs.get(source, 1) <= runs.get(call.path, 1)  # else the source also computes something else
    squash = SQUASH[strip_inplace(gate.call.function)] if gate.plain and gate.call.path is not None else None
    if alone and gate.maker:
        path = gate.maker
    elif alone and squash:  # the function alone produced the value, so a module computes the same
        path = patch_call(net, gate.call, "gate", squash())
    else:
        block, found = patch_call(net, call, "scale", Multiply(nn.Identity()), order), "functional, value only"
        path = f"{block}.gate"
    if found == "functional" and (taken or not scaled.whole):
        block = patch_call(net, call, "scale", Multiply(), order)
    axis, spatial = scaled.axis or 1, scaled.axis == 0
    name = block if taken or not call.path else call.path
    return propose_site(net, name, block, path, scaled.x.shape[axis], found, axis=axis, spatial=spatial)


def _is_unchanged(
    model: TappedModel, images: Tensor, sites: Mapping[str, GateSite], before: Mapping[str, Tensor]
) -> bool:
    """Whether the products are the same as before; a forward that iterates over its children also runs new ones."""
    try:
        after = read_taps(model, images, {name: site.y for name, site in sites.items()})
    except ModelError:
        return False
    return all(
        name in after and after[name].shape == y.shape and bool((after[name] - y).norm() <= TOLERANCE * y.norm())
        for name, y in before.items()
    )
