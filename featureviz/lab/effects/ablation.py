"""How a network's output changes when gates are fixed: all gates of a block, or a single gate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from featureviz.checks import SEEDS, entries, finite, flag, whole
from featureviz.gating.interventions import clamp, mean_ablate, resample
from featureviz.image.picture import check_pictures
from featureviz.lab.statistics.gate_statistics import GateStatistics, measured
from featureviz.lab.statistics.pictures import BATCH, Source, batches
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings, postponed_interrupts, progress_bar
from featureviz.network.taps import OUTPUT, RETURNED

WAYS = ("mean", "one", "shuffled")


@final
@dataclass(frozen=True)
class Ablation:
    """How much a layer changed over ``count`` images when gates of ``site`` were fixed."""

    site: str
    way: str  # "mean", "one" or "shuffled"; "clamped" for a single gate at ``value``
    count: int
    change: float  # |a - b| / |a| of the layer's activations before and after, the mean over images
    divergence: float | None = None  # KL(before | after) in nats, if the layer gives class scores
    flipped: float | None = None  # the share of images whose first class changed
    value: float | None = None

    @classmethod
    def compare(cls, site: str, way: str, before: Tensor, after: Tensor, *, scores: bool) -> Ablation:
        """Compare activations ``[M,...]``; ``scores`` says that they are class scores ``[M,K]``."""
        a, b = before.float().flatten(1), after.float().flatten(1)
        change = float(((a - b).norm(dim=1) / a.norm(dim=1).clamp(min=1e-12)).mean())
        if not scores:
            return cls(site, way, len(a), change)
        p, q = a.log_softmax(1), b.log_softmax(1)
        divergence = float((p.exp() * (p - q)).sum(1).mean())
        return cls(site, way, len(a), change, divergence, float((a.argmax(1) != b.argmax(1)).float().mean()))

    def merge(self, other: Ablation) -> Ablation:
        """The means over the images of both."""
        count, means = self.count + other.count, dict[str, float]()
        for name in ("change", "divergence", "flipped"):
            x, y = getattr(self, name), getattr(other, name)
            if x is not None and y is not None:
                means[name] = (self.count * x + other.count * y) / count
        return replace(self, count=count, **means)

    def __str__(self) -> str:
        text = f"{self.site:30} {self.way:9} output changes by {self.change:7.2%}"
        if self.flipped is None:
            return text
        return f"{text}  KL {self.divergence:7.4f}  first class differs {self.flipped:6.1%}"


@own_surroundings
def ablate(
    model: TappedModel, pictures: Source, natural: GateStatistics, *, sites: Sequence[str] | None = None,
    layer: str = OUTPUT, seed: int = 0, progress: bool = False,
) -> list[Ablation]:  # fmt: skip
    """Fix the gates of each block at their natural mean, at one, and at another image's values, and compare ``layer``.

    The mean removes the gates' reaction to the image. One also removes their constant scales. Shuffling keeps natural
    values but gives each image those of another image of its batch; a batch of one image is not shuffled.

    ``pictures`` are those that ``GateStatistics.measure`` takes, and ``natural`` has the means. ``sites`` are ablated
    one at a time; by default all blocks. For a network whose head is not trained, give the deepest trained ``layer``.

    >>> import featureviz as fv
    >>> model, pictures = fv.load("embedded"), torch.rand(4, 3, 64, 64)
    >>> natural = fv.lab.GateStatistics.measure(model, pictures)
    >>> [a.way for a in ablate(model, pictures, natural, sites=["features.9.block.2"])]
    ['mean', 'one', 'shuffled']
    """
    gates, natural = tapped(model).gates, measured(natural)
    asked = gates.channelwise if sites is None else entries("sites", sites, of="gated blocks")
    names = [gates.resolve(site).name for site in asked]
    results: dict[tuple[str, str], Ablation] = {}
    generator = torch.Generator("cpu").manual_seed(whole("seed", seed, *SEEDS))
    shown = progress_bar(flag("progress", progress), desc="ablation", unit="image")
    with torch.no_grad(), postponed_interrupts() as interrupt, shown as bar:
        for batch in batches(pictures, model.input_size((224, 224))):
            x = batch.images.to(model.device)
            before = model(x, [layer]).views_first(layer)
            order = _shuffle(len(x), generator)
            for site in names:
                for way, intervention in _interventions(model, site, natural, order).items():
                    with intervention:
                        after = model(x, [layer]).views_first(layer)
                    new = Ablation.compare(
                        site, way, before, after, scores=layer in (OUTPUT, RETURNED) and before.ndim == 2
                    )
                    results[site, way] = results[site, way].merge(new) if (site, way) in results else new
            if bar is not None:
                bar.update(len(x))
            interrupt()
    return [results[site, way] for site in names for way in WAYS if (site, way) in results]


@final
class GateAblator:
    """Compares a layer with and without single gates fixed; the layer without is computed once.

    ``images`` are ``[N,3,H,W]`` in [0,1], at the size that the network gets.

    >>> import featureviz as fv
    >>> ablator = GateAblator(fv.load("embedded"), torch.rand(4, 3, 64, 64))
    >>> ablator.clamp("features.9.block.2", 7, 0.0).change > 0
    True
    """

    def __init__(self, model: TappedModel, images: Tensor, layer: str = OUTPUT) -> None:
        self.model, self.layer = tapped(model), layer
        self.images = check_pictures(images, model.channels)
        self.before = self._run()

    def clamp(self, site: str, unit: int, value: float) -> Ablation:
        """The effect of one gate fixed at ``value``."""
        value = finite("value", value)
        with clamp(self.model, site, value, units=[whole("unit", unit)]):
            after = self._run()
        scores = self.layer in (OUTPUT, RETURNED) and self.before.ndim == 2
        return replace(Ablation.compare(site, "clamped", self.before, after, scores=scores), value=value)

    def _run(self) -> Tensor:
        with torch.no_grad():
            outputs = [
                self.model(images.to(self.model.device), [self.layer]).views_first(self.layer).float().cpu()
                for images in self.images.split(BATCH)
            ]
        return torch.cat(outputs)


def _interventions(
    model: TappedModel, site: str, natural: GateStatistics, order: list[int]
) -> dict[str, AbstractContextManager[TappedModel]]:
    interventions = {"mean": mean_ablate(model, site, natural), "one": clamp(model, site, 1.0)}
    if len(order) > 1:
        interventions["shuffled"] = resample(model, site, order)
    return interventions


def _shuffle(n: int, generator: torch.Generator) -> list[int]:
    """A random order in which no image keeps its place."""
    cycle = torch.randperm(n, generator=generator, device="cpu")
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order.tolist()
