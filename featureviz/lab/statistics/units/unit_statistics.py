"""How any units of a network behave on natural images: the images at both ends, and the distribution between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from featureviz.checks import MOST, entries, finite, flag, instance, show, whole, wholes
from featureviz.errors import InvalidInput, unknown
from featureviz.files import PathLike, check_path
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.gate_statistics import LEVELS, load_statistics, save_statistics
from featureviz.lab.statistics.measuring import Measured, measure_all
from featureviz.lab.statistics.pictures import Skipped, Source, load_pictures
from featureviz.lab.statistics.streams import percentiles
from featureviz.lab.statistics.units.layer_statistics import LayerStatistics
from featureviz.lab.statistics.units.map_reader import MapReader, average
from featureviz.lab.statistics.units.neighbours import Neighbour, nearest_units
from featureviz.lab.statistics.units.totals import RunningUnits, make_parts
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import Gates, GateSite
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import GATE, GATE_VALUE

ANOTHER = 0.05  # how far the scores on noise differ, as a share of them, in another network; rounding stays below 0.01


class UnitExample(NamedTuple):
    """An image at an end of a unit's range.

    ``score`` is what ``fv.Channel`` or ``fv.Gate`` scores. ``value`` is a gate's value, and the score of other units.
    ``box`` is where in the image the unit is strongest, or weakest: (y0, x0, y1, x1) in shares of the image.
    """

    image: int
    name: str | None
    score: float
    value: float
    box: tuple[float, float, float, float]


@final
@dataclass(frozen=True, eq=False, repr=False)
class UnitStatistics:
    """The distribution of the units of layers over ``count`` natural images, and the images at both ends.

    A layer is called as in ``model(x, [layer])``; the gates of a block are the units of the layer ``"gate:BLOCK"``.
    ``statistics[layer]`` has the tensors for all of its units.
    """

    layers: Mapping[str, LayerStatistics]
    count: int  # of images
    size: tuple[int, int]  # to which the pictures of a folder were cropped
    names: Mapping[int, str] = field(default_factory=dict)  # of the images at the ends
    skipped: tuple[Skipped, ...] = ()  # files that could not be read
    interrupted: bool = False  # Ctrl-C ended the measurement; the statistics are of the images until then

    def __repr__(self) -> str:
        units = sum(len(layer.units) for layer in self.layers.values())
        return f"UnitStatistics(layers: {len(self.layers)}, units: {units}, images: {self.count})"

    def __getitem__(self, layer: str) -> LayerStatistics:
        if not isinstance(layer, str) or layer not in self.layers:
            raise unknown("unit statistics", layer, self.layers)
        return self.layers[layer]

    @classmethod
    @own_surroundings
    def measure(
        cls, model: TappedModel, pictures: Source, layers: Iterable[str] | None = None,
        gates: Iterable[str | GateSite] | None = None, *, units: Mapping[str, Iterable[int]] | None = None,
        most: int = 8, joint: bool = False, progress: bool = False,
    ) -> UnitStatistics:  # fmt: skip
        """Measure units on ``pictures`` in one pass: one forward for each batch, up to the deepest layer.

        The score of a channel is its mean over positions; that of a gate is its logit. No map is kept, so the memory is
        that of the forward and of the totals: about 5 kB a unit, and with ``joint`` 8 bytes for every two units of a
        layer. It does not grow with the number of pictures, except for their names. Ctrl-C after the second image
        returns the statistics so far.

        Args:
            model: any network.
            pictures: a folder, whose pictures are cropped to the model's input size. Or anything else that ``batches``
                takes: the network gets these images at the size that they have.
            layers: names as in ``model(x, layers)``. Without layers and gates, every layer that runs once and has
                channels is measured, and every channel gate.
            gates: blocks, or their names; ``fv.gates(model).channelwise`` are all channel gates.
            units: the numbers of the units that are kept, by layer; all, of a layer that is not named. ``"gate:BLOCK"``
                stands for the gates of a block.
            most: how many images are kept at each end.
            joint: measure also the correlations of the units of a layer, for ``nearest``.
            progress: show a bar.

        Raises:
            UnknownName: there is no such layer or block.
            ModelError: a layer has no channels or cannot be read, or a score is not finite on an image.
            InvalidInput: fewer than 2 images, or images that ``batches`` refuses; or no such unit.

        >>> import featureviz as fv
        >>> natural = UnitStatistics.measure(fv.load("embedded"), torch.rand(4, 3, 96, 96), ["features.6"])
        >>> natural
        UnitStatistics(layers: 1, units: 40, images: 4)
        >>> low, high = natural.examples("features.6", 3, 1)
        >>> high[0].score == float(natural["features.6"].highest[0, 3])
        True
        """
        most, joint = whole("most", most, 1, MOST), flag("joint", joint)
        names, blocks = _choose(tapped(model), layers, gates)
        noise = _score_noise(model, names)
        parts = make_parts(_choose_units(noise, units), blocks)
        size, reader = model.input_size((224, 224)), MapReader(model, [*names, *blocks.values()])
        done = measure_all(
            pictures, size, RunningUnits.empty(parts, most, joint), lambda running, batch: running.add(reader, batch),
            progress=progress, what="units",
        )  # fmt: skip
        return cls._from_measured(done, noise, size)

    @classmethod
    def _from_measured(
        cls, done: Measured[RunningUnits], noise: Mapping[str, Tensor], size: tuple[int, int]
    ) -> UnitStatistics:
        running, layers = done.totals, dict[str, LayerStatistics]()
        for name, part in running.parts.items():
            totals, joint = running.totals.select(part.columns), running.joint.get(name)
            layers[name] = LayerStatistics.from_totals(part.units, totals, joint, noise[name][part.units])
        names = done.names_of(_example_numbers(layers.values()))
        return cls(layers, running.count, size, names, done.skipped, done.interrupted)

    def completed(self) -> UnitStatistics:
        """Itself, if no Ctrl-C ended the measurement early; otherwise raises ``KeyboardInterrupt``."""
        if self.interrupted:
            raise KeyboardInterrupt
        return self

    def check_fits(self, model: TappedModel) -> None:
        """Raise ``InvalidInput`` if the statistics are of another network: one that gives other scores on noise."""
        noise = _score_noise(tapped(model), list(self.layers))
        for name, layer in self.layers.items():
            fits = bool((layer.units < len(noise[name])).all())
            scores = noise[name][layer.units] if fits else noise[name]
            if not fits or bool((scores - layer.noise).norm() > ANOTHER * torch.stack([scores, layer.noise]).norm()):
                raise InvalidInput(
                    f"the statistics of layer {name!r} are of another network than {model.name}; measure again"
                )

    def examples(self, layer: str, unit: int, most: int | None = None) -> tuple[list[UnitExample], list[UnitExample]]:
        """The images with the smallest and with the largest scores of a unit, the most extreme first.

        At each end are at most ``most`` images (all that are kept, if left out), and at most half of all images.
        """
        s, column = self[layer], self._column(layer, unit)
        count = min(len(s.lowest), self.count // 2, len(s.lowest) if most is None else whole("most", most))

        def end(*tensors: Tensor) -> list[UnitExample]:
            images, scores, values, boxes = (tensor[:count, column].tolist() for tensor in tensors)
            rows = zip(images, scores, values, boxes, strict=True)
            return [UnitExample(i, self.names.get(i), score, value, tuple(box)) for i, score, value, box in rows]

        return (
            end(s.lowest_images, s.lowest, s.lowest_values, s.lowest_boxes),
            end(s.highest_images, s.highest, s.highest_values, s.highest_boxes),
        )

    def percentile(self, layer: str, unit: int, score: float) -> float:
        """The percentile, 0 to 100, of a score among natural images: 0 below the smallest, 100 above the largest.

        It is interpolated between quantiles, which are exact among the kept images. Between them the error is below
        1/255 of the range from the smallest to the largest score.
        """
        known = self[layer].quantiles[:, self._column(layer, unit)]
        return float(percentiles(known, LEVELS, known.new_tensor(finite("score", score))))

    def nearest(self, layer: str, unit: int, k: int = 5) -> list[Neighbour]:
        """The ``k`` units of the layer whose scores are most correlated with those of ``unit``, over natural images."""
        s, column, k = self[layer], self._column(layer, unit), whole("k", k, 1)
        if s.correlation is None:
            raise InvalidInput(f"the units of layer {layer!r} were measured one by one; measure with joint=True")
        return nearest_units(s.correlation[column], s.units, column, k)

    def load_pictures(self, source: Source) -> Iterator[tuple[int, Tensor]]:
        """Every image that is an example of a unit, once and one at a time: its number and ``[C,H,W]`` as measured.

        ``source`` is what was measured. Images that it does not contain any more are left out.
        """
        numbers = _example_numbers(self.layers.values()).tolist()
        return load_pictures(source, {i: self.names.get(i) for i in numbers}, self.size)

    def _column(self, layer: str, unit: int) -> int:
        units, unit = self[layer].units, whole("unit", unit)
        at = int(torch.searchsorted(units, unit))
        if at < len(units) and int(units[at]) == unit:
            return at
        if len(units) and int(units[-1]) == len(units) - 1:
            check_units(layer, [unit], len(units))
        raise InvalidInput(f"unit {unit} of {layer!r} was asked for; measured were {show(units.tolist())}")

    def save(self, path: PathLike) -> None:
        """Write tensors and plain values that ``torch.load`` reads with ``weights_only=True``."""
        about = {
            "names": dict(self.names),
            "skipped": [tuple(s) for s in self.skipped],
            "interrupted": self.interrupted,
        }
        layers = {name: layer.tensors for name, layer in self.layers.items()}
        saved = {"count": self.count, "size": list(self.size), "levels": list(LEVELS), "units": layers, "about": about}
        save_statistics(Path(check_path(path)), saved)

    @classmethod
    def load(cls, path: PathLike) -> UnitStatistics:
        """Read a file that ``save`` wrote; any other file raises ``InvalidInput``."""
        return load_statistics(path, cls._from_saved, "unit statistics", "UnitStatistics.save")

    @classmethod
    def _from_saved(cls, saved: Mapping[str, Any]) -> UnitStatistics:
        if saved["levels"] != list(LEVELS):
            raise ValueError("its quantiles are at other levels: measure the statistics again")
        count, size = whole("count", saved["count"], 2), wholes("size", saved["size"], 1, count=2)
        layers = {name: LayerStatistics.from_tensors(t, count) for name, t in saved["units"].items()}
        about = saved["about"]
        names = {whole("image", i): instance("name", name, str) for i, name in about["names"].items()}
        skipped = tuple(Skipped(*s) for s in about["skipped"])
        return cls(layers, count, (size[0], size[1]), names, skipped, flag("interrupted", about["interrupted"]))


def _choose(
    model: TappedModel, layers: Iterable[str] | None, gates: Iterable[str | GateSite] | None
) -> tuple[list[str], dict[str, str]]:
    """The names of the layers to read, those of gates among them; and for these where their values are read."""
    if layers is None and gates is None:
        layers = [row.name for row in model.layers() if row.units and row.calls == 1]
        gates = list(model.gates.channelwise)
    plain = [
        instance("layer", n, str) for n in entries("layers", () if layers is None else layers, of="names of layers")
    ]
    blocks = [*gates] if isinstance(gates, Gates) else () if gates is None else gates
    sites = [model.gates.resolve(block).name for block in entries("gates", blocks, of="names of gates")]
    names = list(dict.fromkeys([*plain, *(GATE + site for site in sites)]))
    if not names:
        raise InvalidInput("no layers and no gates were given; leave both out for all of them")
    return names, {GATE + site: GATE_VALUE + site for site in sites}


def _choose_units(noise: Mapping[str, Tensor], units: Mapping[str, Iterable[int]] | None) -> dict[str, Tensor]:
    """The numbers of the units of every layer that are kept, ascending."""
    wanted = dict(instance("units", {} if units is None else units, Mapping))
    if other := [name for name in wanted if name not in noise]:
        raise unknown("measured layer", other[0], noise)
    kept = dict[str, Tensor]()
    for name, scores in noise.items():
        chosen = wholes(f"units[{name!r}]", wanted[name]) if name in wanted else range(len(scores))
        check_units(name, chosen, len(scores))
        if not len(chosen):
            raise InvalidInput(f"units[{name!r}]={show(wanted[name])} was given; expected at least one unit")
        kept[name] = torch.tensor(sorted(set(chosen)), dtype=torch.int64, device="cpu")
    return kept


def _score_noise(model: TappedModel, layers: list[str]) -> dict[str, Tensor]:
    """The score of every unit on the model's noise, ``[C]`` for each layer."""
    scores = dict[str, Tensor]()
    reader = MapReader(model, layers)
    reader.stream(model.noise_images(), lambda name, maps, _: scores.update({name: average(maps)[0]}))
    return {name: scores[name].nan_to_num() for name in layers}


def _example_numbers(layers: Iterable[LayerStatistics]) -> Tensor:
    """The numbers of all images at an end of a unit's range, ascending."""
    return torch.cat([end.flatten() for s in layers for end in (s.lowest_images, s.highest_images)]).unique()
