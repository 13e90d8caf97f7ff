"""The gate card: what is known of one gate, by renders, by natural images, and by holding it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput, ModelError
from featureviz.image import FourierImage
from featureviz.lab.effects.single_gate import Held, Holding
from featureviz.lab.gates.reachability import Bounds, bounds
from featureviz.lab.gates.weights import Effective, effective
from featureviz.lab.statistics.examples import Sight, sights
from featureviz.lab.statistics.natural_range import CORNERS, LEVEL, Reach, Standing, corner_shares, reach, standings
from featureviz.lab.statistics.pictures import Source
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.gate_leaves import Gate, PreGate
from featureviz.objectives.quadrant import Quadrant
from featureviz.rendering.entry import render
from featureviz.rendering.rendering import Rendering

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import GateStatistics

GROUP, BATCH, DRIVERS = 4, 24, 4  # gates finished together; images a render; channels a side
EXCITED, SUPPRESSED = "excited", "suppressed"
NEEDED = ("squeeze_covariance", "squeeze_sample", "logit_sample", "histogram_counts", "lowest_images")


@final
@dataclass(frozen=True)
class Tile:
    """One image of a rendering, and where it stands for a gate."""

    rendering: Rendering
    row: int
    standing: Standing

    @property
    def image(self) -> Tensor:
        """``[3,H,W]`` in [0,1]."""
        return self.rendering.images[self.row]


@final
@dataclass(frozen=True)
class Driver:
    """A channel that moves a gate: by ``strength`` logits for one natural sd of it, at the natural mean.

    ``tile`` is what excites the channel before the gates, with that channel's standing; ``standing`` is the gate's own
    on that image.
    """

    channel: int
    strength: float
    tile: Tile
    standing: Standing


@final
@dataclass(frozen=True)
class GateCard:
    """One gate.

    Attributes:
        site: its block.
        unit: its channel.
        natural: the statistics that it is held against.
        noise: where the noise stands that every render began as.
        tiles: what excites and what suppresses it, and the four corners of content and gate (``"high-open"``...).
        corners: the share of natural images in each corner.
        up: how far the excited render came; ``down``: the suppressed one.
        opens: the channels that open it most; ``closes``: that close it most.
        least: the natural images that shut it most; ``most``: that open it most.
        held: the effect of holding it at its natural mean (``"mean"``), at one and at zero.
        missing: why there are no bounds and no drivers, where there are none.
    """

    site: GateSite
    unit: int
    natural: GateStatistics
    noise: Standing
    tiles: Mapping[str, Tile]
    corners: Mapping[str, float]
    up: Reach
    down: Reach
    opens: Sequence[Driver]
    closes: Sequence[Driver]
    least: Sequence[Sight]
    most: Sequence[Sight]
    held: Mapping[str, Held]
    missing: str = ""

    @property
    def spec(self) -> str:
        """The gate as specs write it."""
        return Gate(self.site, self.unit).spec


def cards(
    model: TappedModel,
    site: str,
    units: Sequence[int],
    natural: GateStatistics,
    source: Source,
    holding: Holding,
    *,
    steps: int = 128,
    size: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[GateCard]:
    """The cards of some gates of one block, each as soon as it is known; four gates are rendered in one batch.

    Args:
        model: the network.
        site: a block with channel gates.
        units: its gates.
        natural: statistics with squeezes (``compact`` ones have none).
        source: the images that were measured, for the examples.
        holding: the network's output on some images.
        steps: of ascent, of every render.
        size: of the renders in pixels.
        seed: of the noise, the views and the held-out views.
        progress: show a bar a batch.

    Raises:
        UnknownName: no such block.
        InvalidInput: a gate that is not there, statistics of another network or without squeezes.

    >>> import featureviz as fv
    >>> model, images = fv.load("embedded"), torch.rand(8, 3, 64, 64)
    >>> natural, holding = fv.lab.GateStatistics.measure(model, images), Holding(model, images)
    >>> (card,) = cards(model, "features.2.block.2", [7], natural, images, holding, steps=1, size=64)
    >>> card.spec, len(card.tiles), len(card.opens), len(card.most)
    ('gate:features.2.block.2:7', 6, 4, 4)
    """
    check_gates(model, site, units)
    check_statistics(model, site, natural)
    examples = {unit: sights(model, natural, site, unit, source) for unit in units}  # a mistake is known before work
    studio = _Studio(model, site, natural, steps, size, seed, progress)
    paths = _paths(model, site, natural)
    for group in _groups(list(dict.fromkeys(units)), GROUP):
        rows = studio.gates(group)
        drivers = [_drivers(paths.path, unit) for unit in group]
        studio.draw([channel for sides in drivers for side in sides for channel, _ in side])
        for unit, (noise, tiles), sides in zip(group, rows, drivers, strict=True):
            opens, closes = (studio.drivers(unit, side) for side in sides)
            least, most = examples[unit]
            up, down = (
                reach(natural, site, unit, tiles[name].standing.logit, paths.bounds, up=name == EXCITED)
                for name in (EXCITED, SUPPRESSED)
            )
            corners = {f"{c}-{g}": share for (c, g), share in corner_shares(natural, site, unit).items()}
            held = {
                way: holding.at(site, unit, value)
                for way, value in (("mean", float(natural[site].value_mean[unit])), ("one", 1.0), ("zero", 0.0))
            }
            yield GateCard(
                model.gates[site], unit, natural, noise, tiles, corners, up, down, opens, closes, least, most, held,
                paths.missing,
            )  # fmt: skip


def check_gates(model: TappedModel, site: str, units: Sequence[int]) -> None:
    """That there are such gates, one value a channel."""
    found = model.gates[site]
    if found.spatial:
        raise InvalidInput(f"gate {site!r} has one value a position; cards are of channel gates")
    for unit in units:
        if not 0 <= unit < found.channels:
            raise InvalidInput(
                f"unit {unit} of {site!r} was asked for; it has {found.channels}: 0 to {found.channels - 1}"
            )


def check_statistics(model: TappedModel, site: str, natural: GateStatistics) -> None:
    """That the statistics are of such a block and have what a card shows."""
    channels, measured = model.gates[site].channels, natural[site].logit_mean.numel()
    if measured != channels:
        raise InvalidInput(
            f"the statistics of {site!r} are of {measured} gates, the network's block has {channels}: they are of"
            " another network; measure again"
        )
    for part in NEEDED:
        natural[site].part(part)  # or an error that says how to get it


@final
class _Studio:
    """Renders of one block, in batches; a channel is drawn once, however many gates it moves."""

    def __init__(
        self, model: TappedModel, site: str, natural: GateStatistics, steps: int, size: int, seed: int, progress: bool
    ) -> None:
        self.model, self.site, self.natural = model, site, natural
        self.steps, self.size, self.seed, self.progress = steps, size, seed, progress
        self.drawn: dict[int, Tile] = {}

    def gates(self, units: Sequence[int]) -> list[tuple[Standing, dict[str, Tile]]]:
        """For each gate the standing of noise, and its six tiles."""
        goals = [self._goals(unit) for unit in units]
        tiles = self._tiles([g for each in goals for g in each.values()], [u for u in units for _ in goals[0]])
        noise = FourierImage(1, self.size, seed=self.seed, channels=self.model.channels)().detach()
        noises = self._standings(units, noise.expand(len(units), -1, -1, -1))
        each = len(goals[0])
        return [
            (noises[i], dict(zip(goals[i], tiles[i * each : (i + 1) * each], strict=True))) for i in range(len(units))
        ]

    def draw(self, channels: Sequence[int]) -> None:
        """What excites these channels before their gates, where that is not drawn yet."""
        new = [c for c in dict.fromkeys(channels) if c not in self.drawn]
        self.drawn |= zip(new, self._tiles([PreGate(self.site, c) for c in new], new), strict=True)

    def drivers(self, unit: int, side: Sequence[tuple[int, float]]) -> list[Driver]:
        """Channels and strengths with their pictures, which ``draw`` has made."""
        if not side:
            return []
        tiles = [self.drawn[channel] for channel, _ in side]
        found = self._standings([unit] * len(tiles), torch.stack([tile.image for tile in tiles]))
        return [Driver(c, strength, t, s) for (c, strength), t, s in zip(side, tiles, found, strict=True)]

    def _goals(self, unit: int) -> dict[str, Objective]:
        gate = Gate(self.site, unit)
        corners = {
            f"{c}-{g}": Quadrant(self.site, unit, self.natural, content=c, gate=g, level=LEVEL) for c, g in CORNERS
        }
        return {EXCITED: gate, SUPPRESSED: -gate, **corners}

    def _tiles(self, goals: Sequence[Objective], units: Sequence[int]) -> list[Tile]:
        """All with the number 0, so that a tile is the same in any batch."""
        tiles: list[Tile] = []
        for rows in _groups(range(len(goals)), BATCH):
            made = render(
                self.model, PerImage([goals[i] for i in rows]), steps=self.steps, size=self.size, seed=self.seed,
                image_ids=[0] * len(rows), progress=self.progress,
            )  # fmt: skip
            if made.interrupted:
                raise KeyboardInterrupt  # half a card is none
            found = self._standings([units[i] for i in rows], made.images)
            tiles += [Tile(made, row, standing) for row, standing in enumerate(found)]
        return tiles

    def _standings(self, units: Sequence[int], images: Tensor) -> list[Standing]:
        return standings(self.model, self.natural, self.site, units, images, seed=self.seed)


class _Paths(NamedTuple):
    """What a block's squeeze can do, or why there is no saying."""

    bounds: Bounds | None
    path: Effective | None
    missing: str


def _paths(model: TappedModel, site: str, natural: GateStatistics) -> _Paths:
    s = natural[site]
    try:
        path = effective(model, site, s.squeeze_mean, s.squeeze_sd)
    except ModelError as error:  # not a squeeze-and-excitation block; the card says so
        return _Paths(None, None, str(error))
    return _Paths(bounds(model, site, natural), path, "")


def _drivers(path: Effective | None, unit: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    return ([], []) if path is None else path.drivers(unit, DRIVERS)


def _groups(items: Sequence[int], size: int) -> list[Sequence[int]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
