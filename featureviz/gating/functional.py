"""The third tier: gates that a forward computes with bare functions, ``x * torch.sigmoid(z)``, and inline ones.

A recorder sees every torch function of a forward. On the model's private copy the call that gives the number, and the
product, are then handed to small modules, so that taps and interventions find them like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from featureviz.errors import ModelError
from featureviz.gating.patch import Scale, ScaleBy, reroute, restore
from featureviz.gating.trace import Product, Recorder
from featureviz.gating.verify import read
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.taps import INPUT, OUTPUT, Tap

SAME = 1e-3  # relative: a product after rerouting against before; one that is not the same differs by about 1


@torch.no_grad()
def functional(model: TappedModel, images: Tensor, known: Mapping[str, GateSite]) -> list[GateSite]:
    """The sites in ``model``'s forward whose gates are not known yet."""
    recorder = Recorder()
    with recorder.watching(model.net):
        model.running(images)
    runs = {name: layer.calls for name, layer in model.check().items()}
    gates = {site.gate for site in known.values()}
    sites: dict[str, GateSite] = {}
    before: dict[str, Tensor] = {}
    for call, product in {product.call: product for product in recorder.products}.items():
        if call.path is None or product.number.maker in gates or (product.whole and call.path in known):
            continue
        site = _site(model, product, runs, call.path in known or call.path in sites)
        sites[site.name], before[site.name] = site, site.y.shaped(product.kept)
    model.forget_layers()
    if sites and not _unchanged(model, images, sites, before):
        restore(model.net)
        model.forget_layers()
        return []
    return list(sites.values())


def _site(model: TappedModel, product: Product, runs: Mapping[str, int], taken: bool) -> GateSite:
    """Where the product's gate is read from now on; the name of its block may be ``taken`` by another gate."""
    call, number, net = product.call, product.number, model.net
    assert call.path is not None
    order, found, place = (1, 0) if product.second else (0, 1), "functional", call.path
    alone = runs.get(number.source, 1) <= runs.get(call.path, 1)  # else its module gives other numbers too
    if alone and number.maker:
        gate = number.maker
    elif alone and (module := number.module()):
        gate = reroute(net, number.call, "gate", module)
    else:
        place, found = reroute(net, call, "scale", ScaleBy(), order), "functional, value only"
        gate = f"{place}.gate"
    if found == "functional" and (taken or not product.whole):
        place = reroute(net, call, "scale", Scale(), order)
    axis, flat = product.axis or 1, product.axis != 0
    return GateSite(
        place if taken or not call.path else call.path, "", product.x.shape[axis] if flat else 1,
        net.get_submodule(gate), gate, Tap(gate, INPUT, flat), Tap(gate, OUTPUT, flat), Tap(place, INPUT, axis=axis),
        Tap(place, OUTPUT, axis=axis), found, not flat,
    )  # fmt: skip


def _unchanged(model: TappedModel, images: Tensor, sites: Mapping[str, GateSite], before: Mapping[str, Tensor]) -> bool:
    """Whether the products are what they were: a forward that runs through its own children met new ones."""
    try:
        after = read(model, images, {name: site.y for name, site in sites.items()})
    except ModelError:
        return False
    return all(
        name in after and after[name].shape == y.shape and bool((after[name] - y).norm() <= SAME * y.norm())
        for name, y in before.items()
    )
