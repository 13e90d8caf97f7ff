"""The first tier: known classes of gated blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import nn

from featureviz.gating.verify import propose_site
from featureviz.network.site import GateSite


@final
@dataclass(frozen=True)
class KnownClass:
    """A class whose output is its input times the output of its submodule ``gate``."""

    kind: str
    gate: str
    axis: int = 1
    spatial: bool = False


SE, ECA, CBAM = "SE", "ECA", "CBAM channel"
KNOWN = {
    "torchvision.ops.misc.SqueezeExcitation": KnownClass(SE, "scale_activation"),
    "timm.layers.squeeze_excite.SEModule": KnownClass(SE, "gate"),
    "timm.layers.squeeze_excite.SqueezeExciteCl": KnownClass(SE, "gate", axis=-1),
    "timm.layers.squeeze_excite.EffectiveSEModule": KnownClass("effective SE", "gate"),
    "timm.layers.eca.EcaModule": KnownClass(ECA, "gate"),
    "timm.layers.eca.CecaModule": KnownClass(ECA, "gate"),
    "timm.layers.cbam.ChannelAttn": KnownClass(CBAM, "gate"),
    "timm.layers.cbam.SpatialAttn": KnownClass("CBAM spatial", "gate", spatial=True),
    "timm.layers.global_context.GlobalContext": KnownClass("global context", "gate"),
    "timm.models._efficientnet_blocks.SqueezeExcite": KnownClass(SE, "gate"),
    "timm.models.senet.SEModule": KnownClass(SE, "sigmoid"),
    "timm.models.rexnet.SEWithNorm": KnownClass(SE, "gate"),
    "transformers.models.efficientnet.modeling_efficientnet.EfficientNetSqueezeExciteLayer": KnownClass(
        SE, "act_expand"
    ),
    "transformers.models.regnet.modeling_regnet.RegNetSELayer": KnownClass(SE, "attention.3"),
    "featureviz.nn.attention.SEModule": KnownClass(SE, "gate"),
    "featureviz.nn.attention.ChannelAttention": KnownClass(CBAM, "gate"),
    "featureviz.nn.attention.SpatialAttention": KnownClass("CBAM spatial", "gate", spatial=True),
}


def find_known(net: nn.Module, channels: dict[str, int]) -> Iterator[GateSite]:
    """The sites of known classes in ``net``; ``channels`` is the number of channels of each module that ran."""
    for name, module in net.named_modules():
        entry = next((KNOWN[q] for q in map(_qualify, type(module).__mro__) if q in KNOWN), None)
        gate = f"{name}.{entry.gate}".removeprefix(".") if entry else ""
        if entry and gate in channels:  # else its gate never runs: a subclass, or an option without a gate
            found = f"{type(module).__module__.split('.')[0]} class"
            yield propose_site(
                net, name, gate, channels[gate], found, kind=entry.kind, axis=entry.axis, spatial=entry.spatial
            )


def _qualify(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
