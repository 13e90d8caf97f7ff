"""How the gates of a network behave on natural images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput, unknown
from featureviz.model import TappedModel

# Fine in the tails, where renders are judged; min and max are the ends.
LEVELS = (
    0.0,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    *(i / 20 for i in range(2, 19)),
    0.95,
    0.98,
    0.99,
    0.995,
    0.998,
    0.999,
    1.0,
)


@final
@dataclass(frozen=True)
class SiteStatistics:
    """One block's gates on natural images: quantiles of logits ``[Q,C]``, mean and sd of logits and values ``[C]``."""

    quantiles: Tensor
    logit_mean: Tensor
    logit_sd: Tensor
    value_mean: Tensor
    value_sd: Tensor


@final
class GateStatistics:
    """Every gate's distribution over ``count`` natural images.

    Percentiles are of logits, which order images where gate values have saturated.
    """

    def __init__(self, sites: dict[str, SiteStatistics], count: int) -> None:
        self.sites, self.count = sites, count

    def __getitem__(self, site: str) -> SiteStatistics:
        if site not in self.sites:
            raise unknown("gate statistics", site, self.sites)
        return self.sites[site]

    @classmethod
    def measure(cls, model: TappedModel, batches: Iterable[Tensor]) -> GateStatistics:
        """Over batches ``[B,C,H,W]`` in [0,1]; keeps every logit while it measures, 4 bytes an image and gate."""
        sites = model.gates
        logits: dict[str, list[Tensor]] = {name: [] for name in sites}
        with torch.no_grad():
            for batch in batches:
                seen = model.read(batch.to(model.device), {name: site.logits for name, site in sites.items()})
                for name, z in seen.items():
                    logits[name].append(z.float().cpu())
        count = sum(len(z) for z in logits[next(iter(sites))]) if sites else 0
        if count < 2:
            raise InvalidInput(f"{count} images and {len(sites)} gated blocks were given; expected at least 2 and 1")
        measured = {}
        for name, parts in logits.items():
            z = torch.cat(parts)
            with torch.no_grad():
                g = sites[name].nonlinearity(z.to(model.device)).cpu()
            quantiles = torch.stack([torch.quantile(z, level, dim=0) for level in LEVELS])
            measured[name] = SiteStatistics(quantiles, z.mean(0), z.std(0), g.mean(0), g.std(0))
        return cls(measured, count)

    def percentile(self, site: str, unit: int, logits: Tensor) -> Tensor:
        """Where ``logits`` stand among natural images, 0 to 100, by linear interpolation between quantiles.

        Below the smallest natural logit it is 0, above the largest 100.
        """
        q = self[site].quantiles[:, unit].contiguous()
        levels = torch.tensor(LEVELS, dtype=q.dtype)
        right = torch.searchsorted(q, logits.to(q.dtype).contiguous()).clamp(1, len(q) - 1)
        low, high = q[right - 1], q[right]
        share = ((logits - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        return 100 * (levels[right - 1] + share * (levels[right] - levels[right - 1]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """As half-precision tensors, readable with ``weights_only=True``."""
        tables = {name: {k: v.half() for k, v in vars(site).items()} for name, site in self.sites.items()}
        torch.save({"count": self.count, "levels": list(LEVELS), "sites": tables}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GateStatistics:
        saved = torch.load(path, weights_only=True)
        if saved["levels"] != list(LEVELS):
            raise InvalidInput(f"{path} holds quantiles at other levels; measure the statistics again")
        sites = {name: SiteStatistics(**{k: v.float() for k, v in t.items()}) for name, t in saved["sites"].items()}
        return cls(sites, saved["count"])
