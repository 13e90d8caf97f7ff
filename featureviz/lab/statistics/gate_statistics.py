"""How the gates of a network behave on natural images."""

from __future__ import annotations

import io
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor
from tqdm import tqdm

from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.files import write_bytes
from featureviz.lab.statistics import report
from featureviz.lab.statistics.measuring import OPEN as OPEN
from featureviz.lab.statistics.measuring import SHUT as SHUT
from featureviz.lab.statistics.measuring import Seen
from featureviz.lab.statistics.pictures import Pictures, Skipped, Source, batches
from featureviz.lab.statistics.site_statistics import SiteStatistics
from featureviz.network.model import TappedModel, tapped

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
COMPACT = (
    "quantiles", "logit_mean", "logit_sd", "value_mean", "value_sd", "closed", "opened", "static_share",
    "effective_rank", "eta_squared", "squeeze_quantiles", "squeeze_mean", "squeeze_sd",
)  # fmt: skip


class Example(NamedTuple):
    """An image at an end of a gate's range: its number, its name where known, and the logit."""

    image: int
    name: str | None
    logit: float


@final
class GateStatistics:
    """Every gate's distribution over ``count`` natural images.

    Percentiles are of logits, which order images where gate values have saturated. Quantiles are exact in the tails (as
    far as the extremes reach) and everywhere if ``count`` is at most twice their number; in the middle they are off by
    less than 1/255 of the range from the smallest to the largest, usually far less.

    Attributes:
        sites: block to ``SiteStatistics``; ``statistics[block]`` is the same with a helpful error.
        count: images seen.
        classes: the names of the classes seen, or their numbers; empty without labels.
        class_counts: how many images of each.
        sample: numbers ``[R]`` of a uniform sample of the images (Vitter 1985).
        names: image number to name, of the images among the extremes and in the sample, where known.
        skipped: files that could not be read.
        interrupted: Ctrl-C ended the measurement early; what is here is of the images seen until then.
    """

    def __init__(
        self,
        sites: Mapping[str, SiteStatistics],
        count: int,
        *,
        classes: Sequence[str] = (),
        class_counts: Sequence[int] = (),
        sample: Tensor | None = None,
        names: Mapping[int, str] | None = None,
        skipped: Sequence[Skipped] = (),
        interrupted: bool = False,
    ) -> None:
        self.sites, self.count = dict(sites), count
        self.classes, self.class_counts = tuple(classes), tuple(class_counts)
        self.sample = torch.zeros(0, dtype=torch.int64) if sample is None else sample
        self.names, self.skipped, self.interrupted = dict(names or {}), tuple(skipped), interrupted

    def __getitem__(self, site: str) -> SiteStatistics:
        if site not in self.sites:
            raise unknown("gate statistics", site, self.sites)
        return self.sites[site]

    @classmethod
    def measure(
        cls,
        model: TappedModel,
        pictures: Source,
        *,
        progress: bool = False,
        extremes: int = 64,
        sample: int = 1024,
        seed: int = 0,
    ) -> GateStatistics:
        """Measure every channel gate on ``pictures``, in one pass and in memory that does not grow with them.

        Only the images' names grow with their number. Ctrl-C after the second image returns what there is.

        Args:
            model: a wrapped network with gated blocks.
            pictures: a folder, whose pictures are cropped to the model's own size; or ``Pictures``, a tensor
                ``[N,C,H,W]`` in [0,1], or anything that yields such tensors or (images, labels) pairs, as they are:
                the network sees them at the size they come in.
            progress: show a bar.
            extremes: how many of the smallest and of the largest logits of each gate are kept exactly.
            sample: how many images' logits and squeezes are kept, drawn uniformly.
            seed: of that draw, which depends on nothing else but the number of images.

        Raises:
            ModelError: the network has no channel gates, or a gate is not finite on an image.
            InvalidInput: fewer than 2 images, or images and labels that do not fit (``batches``).

        >>> import featureviz as fv
        >>> natural = GateStatistics.measure(fv.load("embedded"), torch.rand(4, 3, 64, 64))
        >>> natural.count, natural["features.9.block.2"].quantiles.shape
        (4, torch.Size([31, 320]))
        """
        if extremes < 1 or sample < 0:
            raise InvalidInput(f"extremes={extremes} and sample={sample} were given; expected at least 1 and 0")
        sites = tapped(model).gates.channelwise
        if not sites:
            raise ModelError(
                f"{model.name} has no channel gates to measure; give a network with squeeze-and-excitation blocks:"
                " `fv.gates(model)` lists what was found"
            )
        size = model.input_size((224, 224))
        source = Pictures(pictures, size) if isinstance(pictures, str | os.PathLike) else pictures
        seen, names, interrupted = Seen.nothing(sites, extremes), dict[int, str](), False
        total = len(source) if isinstance(source, Pictures | Tensor) else None
        with tqdm(total=total, desc="gates", disable=not progress, unit="image") as bar:
            try:
                for batch in batches(source, size):
                    names.update(enumerate(batch.names or (), seen.count))
                    seen = seen.add(model, batch, sample, seed)
                    bar.update(len(batch.images))
            except KeyboardInterrupt:
                if seen.count < 2:
                    raise
                interrupted = True
        skipped = source.skipped if isinstance(source, Pictures) else ()
        if seen.count < 2:
            left = f" ({len(skipped)} files could not be read)" if skipped else ""
            raise InvalidInput(
                f"{seen.count} images{left} and {len(sites)} gated blocks were given; expected at least 2 and 1"
            )
        return cls._of(seen, source.classes if isinstance(source, Pictures) else (), names, skipped, interrupted)

    @classmethod
    def _of(
        cls,
        seen: Seen,
        classes: tuple[str, ...],
        names: Mapping[int, str],
        skipped: Sequence[Skipped],
        interrupted: bool,
    ) -> GateStatistics:
        first = next(iter(seen.blocks.values())).classes
        sites = {
            name: SiteStatistics(block.parts(LEVELS), name, labelled=len(first.classes) > 0)
            for name, block in seen.blocks.items()
        }
        kept = [
            seen.images,
            *(s.part(k).flatten() for s in sites.values() for k in ("lowest_images", "highest_images")),
        ]
        return cls(
            sites,
            seen.count,
            classes=[classes[i] if classes else str(i) for i in first.classes.tolist()],
            class_counts=first.counts.tolist(),
            sample=seen.images,
            names={i: names[i] for i in torch.cat(kept).unique().tolist() if i in names},
            skipped=skipped,
            interrupted=interrupted,
        )

    def percentile(
        self, site: str, unit: int, logits: Tensor, *, of: Literal["logits", "squeeze"] = "logits"
    ) -> Tensor:
        """Where ``logits``, or squeezes, stand among natural images, 0 to 100, interpolated between quantiles.

        Below the smallest natural one it is 0, above the largest 100.
        """
        known = self[site].quantiles if of == "logits" else self[site].squeeze_quantiles
        _check_unit(site, unit, known)
        q = known[:, unit].contiguous()
        levels = torch.tensor(LEVELS, dtype=q.dtype)
        ranks = []
        for after in (False, True):  # a gate that stands still has one logit, and that is in the middle
            right = torch.searchsorted(q, logits.to(q.dtype).contiguous(), right=after).clamp(1, len(q) - 1)
            low, high = q[right - 1], q[right]
            share = ((logits - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
            ranks.append(levels[right - 1] + share * (levels[right] - levels[right - 1]))
        return 50 * (ranks[0] + ranks[1])

    def quantile(self, site: str, level: float, *, of: Literal["logits", "squeeze"] = "logits") -> Tensor:
        """``[C]``: the logit, or the squeeze, that this share of natural images stays below; level from 0 to 1."""
        if not 0 <= level <= 1:
            raise InvalidInput(f"level={level} was given; expected a share from 0 to 1")
        known = self[site].quantiles if of == "logits" else self[site].squeeze_quantiles
        right = max(1, bisect_left(LEVELS, level))
        share = (level - LEVELS[right - 1]) / (LEVELS[right] - LEVELS[right - 1])
        return torch.lerp(known[right - 1], known[right], share)

    def examples(self, site: str, unit: int, most: int = 8) -> tuple[list[Example], list[Example]]:
        """The images with the smallest and with the largest logits of a gate, outermost first."""
        s = self[site]
        ends = ((s.lowest, s.lowest_images), (s.highest, s.highest_images))
        _check_unit(site, unit, s.lowest)
        low, high = (
            [
                Example(image, self.names.get(image), logit)
                for image, logit in zip(images[:most, unit].tolist(), logits[:most, unit].tolist(), strict=True)
            ]
            for logits, images in ends
        )
        return low, high

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a block, for JSON: shares from 0 to 1, means over its gates; None for what is not known."""
        return [report.row(name, site) for name, site in self.sites.items()]

    def table(self) -> str:
        """A line a block: mean and sd of values, shares in percent, effective rank of co-gating, eta squared.

        >>> import featureviz as fv
        >>> print(fv.lab.natural_gates().table().splitlines()[0])
        block               gates   mean     sd  saturated  static  eff. rank
        """
        return report.table(self.rows())

    def save(self, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Tensors and plain values, readable with ``weights_only=True``.

        ``compact`` keeps quantiles, means, sds and shares, in half precision: what a percentile and a table need.
        """
        about: dict[str, Any] = {"interrupted": self.interrupted, "classes": list(self.classes)}
        about |= {"class_counts": list(self.class_counts), "skipped": [tuple(s) for s in self.skipped]}
        if not compact:
            about |= {"sample": self.sample, "names": self.names}
        tables = {
            name: {k: _half(v) if compact else v for k, v in site.parts.items() if not compact or k in COMPACT}
            for name, site in self.sites.items()
        }
        file = io.BytesIO()
        torch.save({"count": self.count, "levels": list(LEVELS), "sites": tables, "about": about}, file)
        write_bytes(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GateStatistics:
        """What ``save`` wrote; a file that is none, or has other levels, is an ``InvalidInput``."""
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            levels, count, tables, about = saved["levels"], saved["count"], saved["sites"], saved.get("about", {})
        except Exception as error:  # torch has many ways to say that a file is not its own
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InvalidInput(
                f"{path} holds no gate statistics ({why}); give a file that GateStatistics.save wrote"
            ) from error
        if levels != list(LEVELS):
            raise InvalidInput(f"{path} holds quantiles at other levels; measure the statistics again")
        labelled = bool(about.get("classes"))
        sites = {
            name: SiteStatistics({k: _full(v) for k, v in table.items()}, name, labelled)
            for name, table in tables.items()
        }
        return cls(sites, count, **{**about, "skipped": [Skipped(*s) for s in about.get("skipped", ())]})


def _check_unit(site: str, unit: int, known: Tensor) -> None:
    count = known.shape[1]
    if not -count <= unit < count:
        raise InvalidInput(f"unit {unit} of {site!r} was asked for; it has {count}: 0 to {count - 1}")


def _half(tensor: Tensor) -> Tensor:
    """In half precision, if its range allows that."""
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor
