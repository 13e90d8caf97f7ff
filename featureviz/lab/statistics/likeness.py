"""How like natural pictures other pictures are, to the gates of the network itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz.checks import wholes
from featureviz.image.picture import Picture, check_pictures
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.gate_statistics import GateStatistics, measured
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings

TOP, FEWEST, CHUNK = 0.05, 5, 32  # the share of natural pictures that excite a gate most; pictures at once


@own_surroundings
def natural_distance(model: TappedModel, images: Picture, natural: GateStatistics) -> Tensor:
    """How far each image is from natural pictures in all of the network's gates, ``[N]``; 1 for natural pictures.

    ``sqrt(mean_c ((z_c - mean_c) / sd_c)^2)`` over the logits z of all gates that vary, with the mean and the sd of
    natural pictures. Their own mean square is 1 by construction.

    >>> import featureviz as fv
    >>> grey = torch.full((1, 3, 96, 96), 0.5)
    >>> fv.lab.natural_distance(fv.load("embedded"), grey, fv.lab.natural_gates()).shape
    torch.Size([1])
    """
    logits = _standardised_logits(model, images, natural)
    return torch.cat(list(logits.values()), 1).square().mean(1).sqrt()


@own_surroundings
def path_scores(
    model: TappedModel, site: str, units: Sequence[int], images: Picture, natural: GateStatistics
) -> Tensor:
    """Whether image i takes the path through the network that the natural pictures take that open gate ``units[i]``.

    The rank correlation of the image's gate logits with those of each of the 5 % of natural pictures that open the gate
    most, summed over the blocks before ``site``, over what these have with each other, ``[N]``. 1 is as alike as they
    are, 0 unrelated. Each gate is first standardised by its natural mean and sd; without that all
    pictures look alike (after Geirhos et al. 2024, "Don't trust your eyes"). The score of one picture is noisy: read
    the median over a gallery.

    NaN for the first block, which no path leads to. Compact statistics raise ``InvalidInput``.
    """
    names, units = list(tapped(model).gates.channelwise), wholes("units", units)
    response = measured(natural)[site].tensor("logit_sample")
    before = names[: names.index(site)] if site in names else []
    check_units(site, units, response.shape[1])
    own = _standardised_logits(model, images, natural, before) if before else {}
    likeness, among = (torch.zeros(len(units), dtype=torch.float32, device="cpu") for _ in range(2))
    for name in before:
        sample, seen = _ranks(_standardise(natural[name].tensor("logit_sample"), natural, name)), _ranks(own[name])
        for i, unit in enumerate(units):
            top = sample[response[:, unit].topk(max(FEWEST, round(TOP * len(sample)))).indices]
            among[i] += (top @ top.T).triu(1).sum() / (len(top) * (len(top) - 1) / 2)
            likeness[i] += (top @ seen[i]).mean()
    return likeness / among.clamp(min=1e-3) if before else likeness + torch.nan


def _standardised_logits(
    model: TappedModel, images: Picture, natural: GateStatistics, blocks: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """For each block the logits ``[N,C]`` in natural sd from the natural mean, of gates that vary; on the CPU."""
    names = list(tapped(model).gates.channelwise) if blocks is None else list(blocks)
    for name in names:
        measured(natural).check_fits(model, name)
    pictures = check_pictures(images, model.channels)
    size = model.input_size((pictures.shape[-2], pictures.shape[-1]))
    views = F.interpolate(pictures, size, mode="bilinear", antialias=True)
    layers, parts = [f"gate:{name}" for name in names], list[dict[str, Tensor]]()
    with torch.no_grad():
        for part in views.split(CHUNK):
            taken = model(part.to(model.device), layers)
            parts.append({n: taken[layer].float().cpu() for n, layer in zip(names, layers, strict=True)})
    return {name: _standardise(torch.cat([part[name] for part in parts]), natural, name) for name in names}


def _standardise(logits: Tensor, natural: GateStatistics, name: str) -> Tensor:
    mean, sd = natural[name].logit_mean, natural[name].logit_sd
    varies = sd > 1e-3 * sd.max()
    return ((logits - mean) / sd)[:, varies]


def _ranks(values: Tensor) -> Tensor:
    """The ranks in each row, centred and of length 1: their dot products are Spearman's correlations."""
    ranks = values.argsort(1).argsort(1).float()
    return F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)
