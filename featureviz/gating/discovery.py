"""Discovery of attention gates: where they are, and where their logits and values are read.

A gated block computes ``y = x * gate(z)``, with one logit z for each channel (squeeze-and-excitation, Hu et al. 2018)
or for each position (the second half of CBAM, Woo et al. 2018). Discovery has three tiers, the most certain first:
known classes, modules that behave like gates, and gates that a forward computes with bare functions. Each tier
proposes sites, and a site is accepted only if it satisfies the identity above on the network itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import final

from torch import Tensor, nn

from featureviz.errors import ModelError
from featureviz.gating.functional import find_functional
from featureviz.gating.patch import remove_patches
from featureviz.gating.probe import find_by_probing, patch_suspects
from featureviz.gating.verify import (
    TOLERANCE,
    describe_sites,
    make_test_images,
    propose_site,
    replace_zero_weights,
    verify_sites,
)
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import Gates, GateSite, within


@final
@dataclass(frozen=True)
class _KnownClass:
    """A class whose output is its input times the output of its submodule ``gate``."""

    kind: str
    gate: str
    axis: int = 1
    spatial: bool = False


SE, ECA, CBAM = "SE", "ECA", "CBAM channel"
KNOWN = {
    "torchvision.ops.misc.SqueezeExcitation": _KnownClass(SE, "scale_activation"),
    "timm.layers.squeeze_excite.SEModule": _KnownClass(SE, "gate"),
    "timm.layers.squeeze_excite.SqueezeExciteCl": _KnownClass(SE, "gate", axis=-1),
    "timm.layers.squeeze_excite.EffectiveSEModule": _KnownClass("effective SE", "gate"),
    "timm.layers.eca.EcaModule": _KnownClass(ECA, "gate"),
    "timm.layers.eca.CecaModule": _KnownClass(ECA, "gate"),
    "timm.layers.cbam.ChannelAttn": _KnownClass(CBAM, "gate"),
    "timm.layers.cbam.SpatialAttn": _KnownClass("CBAM spatial", "gate", spatial=True),
    "timm.layers.global_context.GlobalContext": _KnownClass("global context", "gate"),
    "timm.models._efficientnet_blocks.SqueezeExcite": _KnownClass(SE, "gate"),
    "timm.models.senet.SEModule": _KnownClass(SE, "sigmoid"),
    "timm.models.rexnet.SEWithNorm": _KnownClass(SE, "gate"),
    "transformers.models.efficientnet.modeling_efficientnet.EfficientNetSqueezeExciteLayer": _KnownClass(
        SE, "act_expand"
    ),
    "transformers.models.regnet.modeling_regnet.RegNetSELayer": _KnownClass(SE, "attention.3"),
    "featureviz.nn.attention.SEModule": _KnownClass(SE, "gate"),
    "featureviz.nn.attention.ChannelAttention": _KnownClass(CBAM, "gate"),
    "featureviz.nn.attention.SpatialAttention": _KnownClass("CBAM spatial", "gate", spatial=True),
}


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
    known = list(_find_known(model.net, counts))
    sites = verify_sites(model, known, images)
    suspects, probed = find_by_probing(model, images, sites)
    sites |= verify_sites(model, probed, images)
    sites |= verify_sites(model, find_functional(model, images, sites), images)
    explained = [path for site in sites.values() for path in (site.gate, site.y.module)]
    left = {n: axis for n, axis in suspects.items() if not any(path == n or within(path, n) for path in explained)}
    sites |= verify_sites(model, list(patch_suspects(model, left)), images)
    for site in known:  # a subclass may compute something else; then it is no gate
        exact = _class_name(type(model.net.get_submodule(site.y.module))) in KNOWN
        if exact and not any(within(other.gate, site.name) for other in sites.values()):
            raise ModelError(
                f"block {site.name!r} ({site.found}) does not compute x * gate(logits) on noise to {TOLERANCE:.0e};"
                " check it for NaN weights"
            )
    order = list(model.check())
    in_order = sorted(sites.values(), key=lambda site: order.index(site.gate))
    return describe_sites(model, in_order, images)


def _find_known(net: nn.Module, channels: dict[str, int]) -> Iterator[GateSite]:
    """The sites of known classes in ``net``; ``channels`` is the number of channels of each module that ran."""
    for name, module in net.named_modules():
        classes = map(_class_name, type(module).__mro__)
        entry = next((KNOWN[c] for c in classes if c in KNOWN), None)
        gate = f"{name}.{entry.gate}".removeprefix(".") if entry else ""
        if entry and gate in channels:  # else its gate never runs: a subclass, or an option without a gate
            found = f"{type(module).__module__.split('.')[0]} class"
            axis, spatial = entry.axis, entry.spatial
            site = propose_site(net, name, name, gate, channels[gate], found, axis=axis, spatial=spatial)
            yield replace(site, kind=entry.kind)


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
