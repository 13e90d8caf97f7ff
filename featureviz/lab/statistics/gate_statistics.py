"""How all channel gates of a network behave on natural images."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, final

import torch
from torch import Tensor

from featureviz.checks import MOST, SEEDS, choice, finite, flag, holds_numbers, show, whole
from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.files import PathLike, check_path, open_file, show_path, write_bytes
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.measuring import Measured, RunningStatistics, measure_all
from featureviz.lab.statistics.pictures import Skipped, Source
from featureviz.lab.statistics.site_statistics import SiteStatistics, format_table
from featureviz.lab.statistics.streams import percentiles
from featureviz.models.checkpoint import read_saved
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings

LEVELS = (  # dense in the tails, where renders lie; the ends are the minimum and the maximum
    0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *(i / 20 for i in range(2, 19)),
    0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0,
)  # fmt: skip
COMPACT = (
    "quantiles", "logit_mean", "logit_sd", "value_mean", "value_sd", "closed", "opened", "static_share",
    "effective_rank", "eta_squared", "squeeze_quantiles", "squeeze_mean", "squeeze_sd",
)  # fmt: skip
OF_BLOCK = ("static_share", "effective_rank")  # one number for all gates
Quantity = Literal["logits", "squeeze"]
T = TypeVar("T")


class Example(NamedTuple):
    """An image at an end of a gate's range: its number, its name if known, and the gate's logit."""

    image: int
    name: str | None
    logit: float


@final
@dataclass(frozen=True, eq=False, repr=False)
class GateStatistics:
    """The distribution of every channel gate over ``count`` natural images.

    Percentiles are those of logits, because logits still order images on which the gate's value is saturated.
    Quantiles are exact among the kept extremes, and everywhere if ``count`` is at most twice the number of extremes.
    Between the extremes the error is below 1/255 of the range from the smallest to the largest.
    """

    sites: Mapping[str, SiteStatistics]  # by block; ``statistics[block]`` gives the same with a helpful error
    count: int  # of images
    classes: tuple[str, ...] = ()  # the names of the classes, or their numbers; empty without labels
    class_counts: tuple[int, ...] = ()  # the number of images of each class
    sample: Tensor = field(
        default_factory=lambda: torch.zeros(0, dtype=torch.int64, device="cpu")
    )  # [R], numbers of images drawn
    names: Mapping[int, str] = field(default_factory=dict)  # of the images among the extremes and in the sample
    skipped: tuple[Skipped, ...] = ()  # files that could not be read
    interrupted: bool = False  # Ctrl-C ended the measurement; the statistics are of the images until then

    def __getitem__(self, site: str) -> SiteStatistics:
        if not isinstance(site, str) or site not in self.sites:
            raise unknown("gate statistics", site, self.sites)
        return self.sites[site]

    @classmethod
    @own_surroundings
    def measure(
        cls, model: TappedModel, pictures: Source, *, progress: bool = False, extremes: int = 64, sample: int = 1024,
        seed: int = 0,
    ) -> GateStatistics:  # fmt: skip
        """Measure every channel gate on ``pictures`` in one pass.

        The memory does not grow with the number of pictures, except for their names. Ctrl-C after the second image
        returns the statistics so far.

        Args:
            model: a network with channel gates.
            pictures: a folder, whose pictures are cropped to the model's input size. Or anything else that ``batches``
                takes: the network gets these images at the size that they have.
            progress: show a bar.
            extremes: how many of the smallest and of the largest logits of each gate are kept exactly.
            sample: how many images are drawn uniformly (Vitter 1985), whose logits and squeezes are kept.
            seed: of the sample, which depends on the seed and the number of images only.

        Raises:
            ModelError: the network has no channel gates, or a gate is not finite on an image.
            InvalidInput: fewer than 2 images, or images and labels that ``batches`` refuses.

        >>> import featureviz as fv
        >>> natural = GateStatistics.measure(fv.load("embedded"), torch.rand(4, 3, 64, 64))
        >>> natural.count, natural["features.9.block.2"].quantiles.shape
        (4, torch.Size([31, 320]))
        """
        extremes, sample = whole("extremes", extremes, 1, MOST), whole("sample", sample, 0, MOST)
        seed = whole("seed", seed, *SEEDS)
        sites = tapped(model).gates.channelwise
        if not sites:
            raise ModelError(
                f"{model.name} has no channel gates to measure; give a network with squeeze-and-excitation blocks:"
                " `fv.gates(model)` lists what was found"
            )
        done = measure_all(
            pictures, model.input_size((224, 224)), RunningStatistics.empty(sites, extremes),
            lambda running, batch: running.add(model, batch, sample, seed), progress=progress, what="gates",
        )  # fmt: skip
        return cls._from_measured(done)

    @classmethod
    def _from_measured(cls, done: Measured[RunningStatistics]) -> GateStatistics:
        running, classes = done.totals, done.classes
        first = next(iter(running.blocks.values())).classes
        sites = {
            name: SiteStatistics(block.to_tensors(LEVELS), name, labelled=len(first.classes) > 0)
            for name, block in running.blocks.items()
        }
        ends = [end.flatten() for s in sites.values() for end in (s.lowest_images, s.highest_images)]
        return cls(
            sites, running.count, tuple(classes[i] if classes else str(i) for i in first.classes.tolist()),
            tuple(first.counts.tolist()), running.sample, done.names_of(torch.cat([running.sample, *ends])),
            done.skipped, done.interrupted,
        )  # fmt: skip

    def completed(self) -> GateStatistics:
        """Itself, if no Ctrl-C ended the measurement early; otherwise raises ``KeyboardInterrupt``."""
        if self.interrupted:
            raise KeyboardInterrupt
        return self

    def check_fits(self, model: TappedModel, site: str) -> None:
        """Raise ``InvalidInput`` if the block of that name has another number of gates in ``model``."""
        channels, measured = tapped(model).gates[site].channels, self[site].logit_mean.numel()
        if measured != channels:
            raise InvalidInput(
                f"the statistics of {site!r} are of {measured} gates, the network's block has {channels}: they are of"
                " another network; measure again"
            )

    def percentile(self, site: str, unit: int, logits: Tensor | float, *, of: Quantity = "logits") -> Tensor:
        """The percentiles, 0 to 100, of ``logits`` or squeezes of one gate among natural images.

        They are interpolated between quantiles: 0 below the smallest natural one, 100 above the largest.
        """
        known, unit = self._quantiles(site, of), whole("unit", unit)
        check_units(site, [unit], known.shape[1])
        q = known[:, unit]
        if not isinstance(logits, Tensor):
            logits = torch.tensor(finite("logits", logits), dtype=q.dtype, device="cpu")
        if not holds_numbers(logits) or not bool(logits.isfinite().all()):
            raise InvalidInput(f"logits={show(logits)} was given; expected finite numbers")
        return percentiles(q, LEVELS, logits)

    def quantile(self, site: str, level: float, *, of: Quantity = "logits") -> Tensor:
        """``[C]``: the logit, or squeeze, below which a share ``level`` (0 to 1) of the natural images lies."""
        level, known = finite("level", level, 0, 1), self._quantiles(site, of)
        right = max(1, bisect_left(LEVELS, level))
        share = (level - LEVELS[right - 1]) / (LEVELS[right] - LEVELS[right - 1])
        return torch.lerp(known[right - 1], known[right], share)

    def examples(self, site: str, unit: int, most: int = 8) -> tuple[list[Example], list[Example]]:
        """The images with the smallest and with the largest logits of a gate, the most extreme first."""
        s, unit, most = self[site], whole("unit", unit), whole("most", most)
        check_units(site, [unit], s.lowest.shape[1])

        def end(images: Tensor, logits: Tensor) -> list[Example]:
            pairs = zip(images[:most, unit].tolist(), logits[:most, unit].tolist(), strict=True)
            return [Example(image, self.names.get(image), logit) for image, logit in pairs]

        return end(s.lowest_images, s.lowest), end(s.highest_images, s.highest)

    def _quantiles(self, site: str, of: Quantity) -> Tensor:
        """``[Q,C]``"""
        logits = choice("of", of, ("logits", "squeeze")) == "logits"
        return self[site].quantiles if logits else self[site].squeeze_quantiles

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each block, for JSON: means over its gates, shares from 0 to 1, None for the unknown."""
        return [site.row() for site in self.sites.values()]

    def table(self) -> str:
        """A line for each block: mean and sd of values, shares in percent, effective rank, eta squared."""
        return format_table(self.rows())

    def save(self, path: PathLike, *, compact: bool = False) -> None:
        """Write tensors and plain values that ``torch.load`` reads with ``weights_only=True``.

        ``compact`` keeps only quantiles, means, sds and shares, in half precision: enough for percentiles and tables.
        """
        target, compact = Path(check_path(path)), flag("compact", compact)
        about: dict[str, Any] = {"interrupted": self.interrupted, "classes": list(self.classes)}
        about |= {"class_counts": list(self.class_counts), "skipped": [tuple(s) for s in self.skipped]}
        if not compact:
            about |= {"sample": self.sample, "names": self.names}
        sites = {
            name: {k: _to_half(v) if compact else v for k, v in s.tensors.items() if not compact or k in COMPACT}
            for name, s in self.sites.items()
        }
        save_statistics(target, {"count": self.count, "levels": list(LEVELS), "sites": sites, "about": about})

    @classmethod
    def load(cls, path: PathLike) -> GateStatistics:
        """Read a file that ``save`` wrote; any other file, or one with other levels, raises ``InvalidInput``."""
        return load_statistics(path, cls._from_saved, "gate statistics", "GateStatistics.save")

    @classmethod
    def _from_saved(cls, saved: Mapping[str, Any]) -> GateStatistics:
        if saved["levels"] != list(LEVELS):
            raise ValueError("its quantiles are at other levels: measure the statistics again")
        about = saved.get("about", {})
        sites: dict[str, SiteStatistics] = {}
        for name, table in saved["sites"].items():
            full = {k: v.float() if v.dtype == torch.float16 else v for k, v in table.items()}
            sites[name] = SiteStatistics(_check_shapes(full), name, bool(about.get("classes")))
        lists = {key: tuple(about.get(key, ())) for key in ("classes", "class_counts")}
        skipped = tuple(Skipped(*s) for s in about.get("skipped", ()))
        return cls(sites, whole("count", saved["count"], 2), **{**about, **lists, "skipped": skipped})


def save_statistics(path: Path, saved: Mapping[str, Any]) -> None:
    """Write tensors and plain values that ``load_statistics`` reads."""
    file = io.BytesIO()
    torch.save(saved, file)
    write_bytes(path, file.getvalue())


def load_statistics(path: PathLike, read: Callable[[Any], T], what: str, writer: str) -> T:
    """``read`` of what a file holds; ``InvalidInput`` that names the file if it holds no such statistics."""
    open_file(path).close()  # what is no file at all has an error of its own
    try:
        return read(read_saved(path, "statistics"))
    except Exception as error:  # whatever else the file holds
        why = str(error) if isinstance(error, ModelError | ValueError) else f"{type(error).__name__}: {error}"
        raise InvalidInput(f"{show_path(path)} holds no {what} ({why}); give a file that {writer} wrote") from error


def measured(natural: GateStatistics) -> GateStatistics:
    """``natural``, or an error that says how to get statistics."""
    if isinstance(natural, GateStatistics):
        return natural
    raise InvalidInput(
        f"natural={show(natural)} was given; expected statistics: fv.lab.GateStatistics.measure(model, pictures)"
    )


def _check_shapes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a block; a ``ValueError`` unless their shapes are those of one block."""
    channels = tensors["logit_mean"].numel()
    for key in ("quantiles", *(k for k in COMPACT if k in tensors)):
        shape = [len(LEVELS), channels] if key.endswith("quantiles") else [] if key in OF_BLOCK else [channels]
        if list(tensors[key].shape) != shape:
            raise ValueError(f"{key} is {list(tensors[key].shape)}, which should be {shape}: measure again")
    return tensors


def natural_gates() -> GateStatistics:
    """How the gates of the embedded network behave on natural pictures that were not used in its training.

    ``docs/embedded.md`` describes the measurement.

    >>> natural_gates().count > 5000
    True
    """
    with as_file(files("featureviz.models") / "embedded_gates.pt") as path:
        return GateStatistics.load(path)


def _to_half(tensor: Tensor) -> Tensor:
    """In half precision if the range of half precision allows it."""
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor
