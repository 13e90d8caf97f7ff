"""Discovery of attention gates: where they are, and where their logits and values are read.

A gated block computes ``y = x * gate(z)``, with one logit z for each channel (squeeze-and-excitation, Hu et al. 2018)
or for each position (the second half of CBAM, Woo et al. 2018). Discovery has three tiers, the most certain first:
known classes, modules that behave like gates, and gates that a forward computes with bare functions. Each tier
proposes sites, and a site is accepted only if it satisfies the identity above on the network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torch import Tensor

from featureviz.errors import ModelError
from featureviz.gating.functional import find_functional
from featureviz.gating.known import find_known
from featureviz.gating.patch import remove_patches
from featureviz.gating.probe import find_by_probing, patch_suspects
from featureviz.gating.verify import TOLERANCE, describe_sites, make_test_images, replace_zero_weights, verify_sites
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import Gates, GateSite, within


def gates(model: TappedModel) -> Gates:
    """The gated blocks of ``model`` by name, in the order in which they run; empty if it has none.

    >>> import featureviz as fv
    >>> fv.gates(fv.load("embedded"))["features.9.block.2"].channels
    320
    """
    return tapped(model).gates


def discover(model: TappedModel) -> Gates:
    """Find, verify and sort the sites of ``model``.

    ``model`` holds a copy that may be patched: a gate that is no module becomes one. Patches of an earlier discovery
    are undone first.
    """
    remove_patches(model.net)
    model.forget_layers()
    with replace_zero_weights(model.net):
        return Gates(_find_sites(model, make_test_images(model)), model.name)


def _find_sites(model: TappedModel, images: Tensor) -> dict[str, GateSite]:
    counts = {name: prod(layer.shape[1:]) for name, layer in model.check().items()}
    known = list(find_known(model.net, counts))
    sites = verify_sites(model, known, images)
    suspects, probed = find_by_probing(model, images, sites)
    sites |= verify_sites(model, probed, images)
    sites |= verify_sites(model, find_functional(model, images, sites), images)
    explained = [path for site in sites.values() for path in (site.gate, site.y.module)]
    left = {n: axis for n, axis in suspects.items() if not any(path == n or within(path, n) for path in explained)}
    sites |= verify_sites(model, list(patch_suspects(model, left)), images)
    for site in known:
        if not any(within(other.gate, site.name) for other in sites.values()):
            raise ModelError(
                f"block {site.name!r} ({site.found}) does not compute x * gate(logits) on noise to {TOLERANCE:.0e};"
                " check it for NaN weights, or for a subclass that computes something else"
            )
    return describe_sites(model, _sort_by_run(model, sites), images)


def _sort_by_run(model: TappedModel, sites: Mapping[str, GateSite]) -> list[GateSite]:
    order = list(model.check())
    return sorted(sites.values(), key=lambda site: order.index(site.gate))
