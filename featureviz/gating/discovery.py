"""Attention gates: where they are, and where their logits and values are read.

A gated block computes ``y = x * gate(z)``, one logit z a channel (squeeze-and-excitation, Hu et al. 2018) or one a
position (the second half of CBAM, Woo et al. 2018). Discovery goes through three tiers, the surest first: known
classes, modules that behave like gates, and gates that a forward computes with bare functions. Whatever they propose
must prove that identity on the network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torch import Tensor

from featureviz.errors import ModelError
from featureviz.gating.functional import functional
from featureviz.gating.known import known
from featureviz.gating.probe import behavioural, opaque
from featureviz.gating.verify import TOLERANCE, awake, named_kinds, proved, varied
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import Gates, GateSite, within

__all__ = ["TOLERANCE", "GateSite", "Gates", "discover", "gates"]


def gates(model: TappedModel) -> Gates:
    """The gated blocks of ``model``, by name, in order of running; empty where there are none.

    >>> import featureviz as fv
    >>> fv.gates(fv.load("embedded"))["features.9.block.2"].channels
    320
    """
    return tapped(model).gates


def discover(model: TappedModel) -> Gates:
    """Find, check and order the sites of ``model``, whose own copy may be patched: gates without a module get one."""
    with awake(model.net):
        return Gates(_found(model, varied(model)), model.name)


def _found(model: TappedModel, images: Tensor) -> dict[str, GateSite]:
    counts = {name: prod(layer.shape[1:]) for name, layer in model.check().items()}
    claims = list(known(model.net, counts))
    sites = proved(model, claims, images)
    suspects, found = behavioural(model, images, sites)
    sites |= proved(model, found, images)
    sites |= proved(model, functional(model, images, sites), images)
    seen = [path for site in sites.values() for path in (site.gate, site.y.module)]
    left = {n: axis for n, axis in suspects.items() if not any(path == n or within(path, n) for path in seen)}
    sites |= proved(model, list(opaque(model, left)), images)
    for claim in claims:
        if not any(within(site.gate, claim.name) for site in sites.values()):
            raise ModelError(
                f"block {claim.name!r} ({claim.found}) does not compute x * gate(logits) on noise to {TOLERANCE:.0e};"
                " are there NaN weights, or does this subclass do something else?"
            )
    return named_kinds(model, _ordered(model, sites), images)


def _ordered(model: TappedModel, sites: Mapping[str, GateSite]) -> list[GateSite]:
    """In order of running."""
    ran = list(model.check())
    return sorted(sites.values(), key=lambda site: ran.index(site.gate))
