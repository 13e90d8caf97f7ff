"""The first tier: classes whose gates are known by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import nn

from featureviz.network.site import GateSite
from featureviz.network.taps import INPUT, OUTPUT, Tap


@final
@dataclass(frozen=True)
class Known:
    """A class that returns its input times what its submodule ``gate`` gives."""

    kind: str
    gate: str
    axis: int = 1
    spatial: bool = False


SE, ECA, CBAM = "SE", "ECA", "CBAM channel"
KNOWN = {
    "torchvision.ops.misc.SqueezeExcitation": Known(SE, "scale_activation"),
    "timm.layers.squeeze_excite.SEModule": Known(SE, "gate"),
    "timm.layers.squeeze_excite.SqueezeExciteCl": Known(SE, "gate", axis=-1),
    "timm.layers.squeeze_excite.EffectiveSEModule": Known("effective SE", "gate"),
    "timm.layers.eca.EcaModule": Known(ECA, "gate"),
    "timm.layers.eca.CecaModule": Known(ECA, "gate"),
    "timm.layers.cbam.ChannelAttn": Known(CBAM, "gate"),
    "timm.layers.cbam.SpatialAttn": Known("CBAM spatial", "gate", spatial=True),
    "timm.layers.global_context.GlobalContext": Known("global context", "gate"),
    "timm.models._efficientnet_blocks.SqueezeExcite": Known(SE, "gate"),
    "timm.models.senet.SEModule": Known(SE, "sigmoid"),
    "timm.models.rexnet.SEWithNorm": Known(SE, "gate"),
    "transformers.models.efficientnet.modeling_efficientnet.EfficientNetSqueezeExciteLayer": Known(SE, "act_expand"),
    "transformers.models.regnet.modeling_regnet.RegNetSELayer": Known(SE, "attention.3"),
    "featureviz.nn.attention.SEModule": Known(SE, "gate"),
    "featureviz.nn.attention.ChannelAttention": Known(CBAM, "gate"),
    "featureviz.nn.attention.SpatialAttention": Known("CBAM spatial", "gate", spatial=True),
}


def known(net: nn.Module, channels: dict[str, int]) -> Iterator[GateSite]:
    """The sites of known classes in ``net``; ``channels`` counts the gates of the modules that ran."""
    for name, module in net.named_modules():
        entry = next((KNOWN[q] for q in map(_qualified, type(module).__mro__) if q in KNOWN), None)
        path = f"{name}.{entry.gate}".removeprefix(".") if entry else ""
        if entry and path in channels:  # else its gate never ran: a subclass, or an option that goes without
            flat = not entry.spatial
            yield GateSite(
                name, entry.kind, 1 if entry.spatial else channels[path], net.get_submodule(path), path,
                Tap(path, INPUT, flat), Tap(path, OUTPUT, flat), Tap(name, INPUT, axis=entry.axis),
                Tap(name, OUTPUT, axis=entry.axis), f"{type(module).__module__.split('.')[0]} class", entry.spatial,
            )  # fmt: skip


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
