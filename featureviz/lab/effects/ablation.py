"""What a block's gates are for: the network with them frozen, opened or shuffled, against the network as it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, final

import torch
from tqdm import tqdm

from featureviz.gating.interventions import clamp, mean_ablate, resample
from featureviz.lab.effects.effect import Effect
from featureviz.lab.statistics.pictures import Source, batches
from featureviz.network.model import TappedModel, tapped
from featureviz.network.taps import OUTPUT

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import GateStatistics

WAYS = ("mean", "one", "shuffled")


@final
@dataclass(frozen=True)
class Ablation:
    """What became of a layer, over ``count`` images, when the gates of ``site`` were held in one ``way``.

    ``change`` is ``|a - b| / |a|`` of the layer's activations, the mean over images. Of the network's class scores also
    ``divergence``, KL(before | after) in nats, and ``flipped``, the share of images whose first class is another.
    """

    site: str
    way: str
    count: int
    change: float
    divergence: float | None
    flipped: float | None

    def __str__(self) -> str:
        classes = (
            "" if self.flipped is None else f"  KL {self.divergence:7.4f}  first class differs {self.flipped:6.1%}"
        )
        return f"{self.site:30} {self.way:9} output moves by {self.change:7.2%}{classes}"


def ablate(
    model: TappedModel,
    pictures: Source,
    natural: GateStatistics,
    *,
    sites: Sequence[str] | None = None,
    layer: str = OUTPUT,
    seed: int = 0,
    progress: bool = False,
) -> list[Ablation]:
    """Hold each block's gates at their natural mean, at one, and at another image's, and see what ``layer`` does.

    How much the mean changes is what the block's reaction to the picture is worth; how much one changes, what its fixed
    scales are worth too; shuffling keeps natural gates and takes away that they belong to the picture.

    Args:
        model: a network with channel gates.
        pictures: a folder, tensors or a loader, as ``GateStatistics.measure`` takes them. Gates are shuffled within a
            batch; a batch of one image counts for the other two ways alone.
        natural: the statistics that hold the means.
        sites: the blocks to ablate, one after the other; all of them if left out.
        layer: what is compared; give the deepest trained one of a network without its head.
        seed: of the shuffling.
        progress: show a bar.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> pictures = torch.rand(4, 3, 64, 64)
    >>> natural = fv.lab.GateStatistics.measure(model, pictures)
    >>> [a.way for a in ablate(model, pictures, natural, sites=["features.9.block.2"])]
    ['mean', 'one', 'shuffled']
    """
    gates = tapped(model).gates
    chosen = list(gates.channelwise) if sites is None else [gates[s].name for s in sites]
    size = model.input_size((224, 224))
    found: dict[tuple[str, str], Effect] = {}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), tqdm(desc="ablation", disable=not progress, unit="image") as bar:
        for batch in batches(pictures, size):
            x = batch.images.to(model.device)
            before = model(x, [layer])[layer]
            order = _cycle(len(x), generator)
            for site in chosen:
                for way, context in _ways(model, site, natural, order).items():
                    with context:
                        after = model(x, [layer])[layer]
                    effect = Effect.of(before, after, scores=layer == OUTPUT and before.ndim == 2)
                    found[site, way] = found[site, way].with_(effect) if (site, way) in found else effect
            bar.update(len(x))
    return [Ablation(site, way, *astuple(found[site, way])) for site in chosen for way in WAYS if (site, way) in found]


def _ways(
    model: TappedModel, site: str, natural: GateStatistics, order: list[int]
) -> dict[str, AbstractContextManager[TappedModel]]:
    ways: dict[str, AbstractContextManager[TappedModel]] = {}
    ways["mean"], ways["one"] = mean_ablate(model, site, natural), clamp(model, site, 1.0)
    if len(order) > 1:
        ways["shuffled"] = resample(model, site, order)
    return ways


def _cycle(n: int, generator: torch.Generator) -> list[int]:
    """A random order in which no image keeps its own place."""
    cycle = torch.randperm(n, generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order.tolist()
