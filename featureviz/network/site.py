"""What a gate is: the contract of a site, and a model's sites by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, final, runtime_checkable

from torch import Tensor, nn

from featureviz.errors import ModelError, unknown
from featureviz.network.taps import Tap


@final
@dataclass(frozen=True)
class GateSite:
    """One gated block: ``y == x * nonlinearity(logits)``, one number a channel, or one a position if ``spatial``.

    ``x``, ``y``, ``logits`` and ``value`` say where these are read: maps ``[M,C,H,W]`` and, of a channel gate,
    ``[M,channels]``; of a spatial one ``[M,1,H,W]``. ``gate`` is the path of the module that computes the value, where
    interventions act. ``fc1`` is the path of the layer that reads the squeeze ``mean_hw x``, ``hidden`` where the
    bottleneck is read, before its activation; both are missing where a block has none. ``found`` says how the site was
    recognised, ``error`` how closely it recomputes y (relative, at discovery).
    """

    name: str
    kind: str
    channels: int
    nonlinearity: nn.Module
    gate: str
    logits: Tap
    value: Tap
    x: Tap
    y: Tap
    found: str
    spatial: bool = False
    fc1: str = ""
    hidden: Tap | None = None
    calls: int = 1
    error: float = float("nan")

    def broadcast(self, value: Tensor, ndim: int = 4) -> Tensor:
        """``[M,channels]``, or a spatial gate's ``[M,1,H,W]``, in the shape that multiplies the map x."""
        return value if self.spatial else value.reshape(*value.shape, *[1] * (ndim - 2))

    def squeezed(self, x: Tensor) -> Tensor:
        """The squeeze ``mean_hw x``: a map ``[M,C,H,W]`` to ``[M,channels]``."""
        return x.flatten(2).mean(2)

    def __str__(self) -> str:
        gate = type(self.nonlinearity).__name__
        what = "positions" if self.spatial else "gates"
        count = "" if self.spatial else f"{self.channels:5} "
        return f"{self.name:40} {count:>6}{what:9} {self.kind:14} {gate:12} {self.found}, checked to {self.error:.0e}"


@final
class Gates(Mapping[str, GateSite]):
    """A model's gated blocks by name, in order of running; a wrong name gets the nearest ones.

    ``channelwise`` leaves spatial gates out.
    """

    def __init__(self, sites: Mapping[str, GateSite], model: str) -> None:
        self._sites, self._model = dict(sites), model

    @property
    def channelwise(self) -> Gates:
        return Gates({name: site for name, site in self._sites.items() if not site.spatial}, self._model)

    def __getitem__(self, name: str) -> GateSite:
        if isinstance(name, str) and name in self._sites:
            return self._sites[name]
        if not self._sites:
            raise ModelError(
                f"{self._model} has no squeeze-and-excitation gates, so there is no gate {name!r}; visualise a channel"
                " (LAYER:CHANNEL) instead"
            )
        raise unknown("gate", name, self._sites, "`fv.gates(model)` lists them.")

    def __contains__(self, name: object) -> bool:
        return name in self._sites

    def resolve(self, site: str | GateSite) -> GateSite:
        """The model's own site of that name, or of the name of a site of the same network."""
        return self[site.name if isinstance(site, GateSite) else site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return "\n".join(str(site) for site in self._sites.values()) or f"{self._model}: no gates"


class NaturalSite(Protocol):
    """What is known of one block's gates on natural images, each ``[C]``."""

    @property
    def value_mean(self) -> Tensor: ...
    @property
    def logit_mean(self) -> Tensor: ...
    @property
    def logit_sd(self) -> Tensor: ...
    @property
    def squeeze_sd(self) -> Tensor: ...


@runtime_checkable
class NaturalGates(Protocol):
    """Natural statistics of a network's gates, such as ``fv.lab.GateStatistics``."""

    def __getitem__(self, site: str, /) -> NaturalSite: ...

    def quantile(self, site: str, level: float, *, of: Literal["logits", "squeeze"] = "logits") -> Tensor:
        """``[C]``: the logit, or the squeeze, that this share of natural images stays below."""
        ...


def within(path: str, parent: str) -> bool:
    """Whether the module at ``path`` lies inside the one at ``parent``; "" is the whole network."""
    return path.startswith(f"{parent}." if parent else "") and path != parent
