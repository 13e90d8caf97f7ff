"""The gate card: one gate by renders, by natural images, and by ablation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from featureviz.checks import SEEDS, STEPS, whole, wholes
from featureviz.errors import InvalidInput, ModelError
from featureviz.image import FourierImage
from featureviz.lab.effects.ablation import Ablation, GateAblator
from featureviz.lab.gates.natural_range import (
    CORNERS,
    LEVEL,
    GateResponse,
    Reach,
    corner_shares,
    measure_reach,
    measure_responses,
)  # fmt: skip
from featureviz.lab.gates.reachability import ReachableRange, reachable_range
from featureviz.lab.gates.weights import GateJacobian, gate_jacobian
from featureviz.lab.inputs import check_units
from featureviz.lab.statistics.examples import ExampleImage, load_examples
from featureviz.lab.statistics.gate_statistics import GateStatistics, measured
from featureviz.lab.statistics.pictures import Source
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.gate_leaves import Gate, PreGate
from featureviz.objectives.quadrant import Quadrant
from featureviz.rendering.entry import render
from featureviz.rendering.rendering import Rendering

GROUP, BATCH, DRIVERS = 4, 24, 4  # gates in a group; images in a render; drivers in each direction
EXCITED, SUPPRESSED = "excited", "suppressed"
NEEDED = ("squeeze_covariance", "squeeze_sample", "logit_sample", "histogram_counts", "lowest_images")


@final
@dataclass(frozen=True)
class Tile:
    """One image of a rendering, and the response of a gate to it."""

    rendering: Rendering
    row: int
    response: GateResponse

    @property
    def image(self) -> Tensor:
        """``[3,H,W]`` in [0,1]."""
        return self.rendering.images[self.row]


@final
@dataclass(frozen=True)
class Driver:
    """A channel that changes a gate by ``strength`` logits for one natural sd of the channel, at the natural mean."""

    channel: int
    strength: float
    tile: Tile  # the image that excites the channel before the gates, with the response of the channel's own gate
    response: GateResponse  # of the card's gate to that image


@final
@dataclass(frozen=True)
class GateCard:
    """One gate, number ``unit`` of the block ``site``, compared with ``natural`` statistics."""

    site: GateSite
    unit: int
    natural: GateStatistics
    noise: GateResponse  # to the noise that every render starts from
    tiles: Mapping[str, Tile]  # "excited", "suppressed", and the four corners of content and gate ("high-open"...)
    corners: Mapping[str, float]  # the share of natural images in each corner
    up: Reach  # of the excited render
    down: Reach  # of the suppressed render
    opens: Sequence[Driver]  # the channels that open it most
    closes: Sequence[Driver]  # the channels that close it most
    least: Sequence[ExampleImage]  # the natural images on which it is shut most
    most: Sequence[ExampleImage]  # the natural images on which it is open most
    ablations: Mapping[str, Ablation]  # the gate clamped at its natural "mean", at "one" and at "zero"
    missing: str = ""  # why there are no bounds and no drivers, if there are none

    @property
    def spec(self) -> str:
        """The gate's spec."""
        return Gate(self.site, self.unit).spec


def make_cards(
    model: TappedModel, site: str, units: Sequence[int], natural: GateStatistics, source: Source, ablator: GateAblator,
    *, steps: int = 128, size: int = 128, seed: int = 0, progress: bool = False,
) -> Iterator[GateCard]:  # fmt: skip
    """The cards of some gates of one block, each as soon as it is complete; four gates are rendered in one batch.

    ``natural`` must have squeezes, and ``source`` contains the images that were measured. ``steps`` and ``size`` are
    those of every render; ``seed`` is that of the noise, the views and the held-out views. The errors are those of
    ``check_gates``, ``check_statistics`` and ``load_examples``.
    """
    steps, size, seed = whole("steps", steps, 0, STEPS), whole("size", size, 1), whole("seed", seed, *SEEDS)
    check_gates(model, site, units)
    check_statistics(model, site, natural)
    # Before the renders, because it finds mistakes in the source.
    examples = {unit: load_examples(model, natural, site, unit, source) for unit in units}
    renderer = _CardRenderer(model, site, natural, steps, size, seed, progress)
    jacobian, reachable, missing = _analyse_excitation(model, site, natural)
    for group in _split(list(dict.fromkeys(units)), GROUP):
        drivers = [([], []) if jacobian is None else jacobian.drivers(unit, DRIVERS) for unit in group]
        rendered = renderer.render_gates(group)
        renderer.render_channels([channel for sides in drivers for side in sides for channel, _ in side])
        for unit, (noise, tiles), sides in zip(group, rendered, drivers, strict=True):
            opens, closes = (renderer.drivers(unit, side) for side in sides)
            up, down = (
                measure_reach(natural, site, unit, tiles[name].response.logit, reachable, up=name == EXCITED)
                for name in (EXCITED, SUPPRESSED)
            )
            corners = corner_shares(natural, site, unit)
            values = {"mean": float(natural[site].value_mean[unit]), "one": 1.0, "zero": 0.0}
            ablations = {way: ablator.clamp(site, unit, value) for way, value in values.items()}
            yield GateCard(
                model.gates[site], unit, natural, noise, tiles, corners, up, down, opens, closes, *examples[unit],
                ablations, missing,
            )  # fmt: skip


def check_gates(model: TappedModel, site: str, units: Sequence[int]) -> None:
    """Raise ``InvalidInput`` unless the block has these gates and one value for each channel."""
    gate_site = model.gates[site]
    units = wholes("units", units)
    if gate_site.spatial:
        raise InvalidInput(f"gate {site!r} has one value for each position; expected a block with channel gates")
    check_units(site, units, gate_site.channels)


def check_statistics(model: TappedModel, site: str, natural: GateStatistics) -> None:
    """Raise ``InvalidInput`` unless the statistics fit the block and contain everything that a card shows."""
    measured(natural).check_fits(model, site)
    for name in NEEDED:
        natural[site].tensor(name)


@final
class _CardRenderer:
    """Renders of one block in batches; each channel is rendered once, even if it drives several gates."""

    def __init__(
        self, model: TappedModel, site: str, natural: GateStatistics, steps: int, size: int, seed: int, progress: bool
    ) -> None:
        self.model, self.site, self.natural = model, site, natural
        self.steps, self.size, self.seed, self.progress = steps, size, seed, progress
        self.channels: dict[int, Tile] = {}

    def render_gates(self, units: Sequence[int]) -> list[tuple[GateResponse, dict[str, Tile]]]:
        """For each gate its response to noise, and its six tiles."""
        goals = [self._goals(unit) for unit in units]
        each = len(goals[0])
        tiles = self._render([g for names in goals for g in names.values()], [u for u in units for _ in range(each)])
        noise = FourierImage(1, self.size, seed=self.seed, channels=self.model.channels)().detach()
        noises = self._responses(units, noise.expand(len(units), -1, -1, -1))
        groups = _split(tiles, each)
        return [(noises[i], dict(zip(goals[i], groups[i], strict=True))) for i in range(len(units))]

    def render_channels(self, channels: Sequence[int]) -> None:
        """Render what excites these channels before their gates, unless it is rendered already."""
        new = [c for c in dict.fromkeys(channels) if c not in self.channels]
        self.channels |= zip(new, self._render([PreGate(self.site, c) for c in new], new), strict=True)

    def drivers(self, unit: int, side: Sequence[tuple[int, float]]) -> list[Driver]:
        """Channels and strengths, with the tiles of ``render_channels``."""
        if not side:
            return []
        tiles = [self.channels[channel] for channel, _ in side]
        responses = self._responses([unit] * len(tiles), torch.stack([tile.image for tile in tiles]))
        return [Driver(c, strength, t, r) for (c, strength), t, r in zip(side, tiles, responses, strict=True)]

    def _goals(self, unit: int) -> dict[str, Objective]:
        gate = Gate(self.site, unit)
        site, natural = self.site, self.natural
        corners = {f"{c}-{g}": Quadrant(site, unit, natural, content=c, gate=g, level=LEVEL) for c, g in CORNERS}
        return {EXCITED: gate, SUPPRESSED: -gate, **corners}

    def _render(self, goals: Sequence[Objective], units: Sequence[int]) -> list[Tile]:
        """Each goal as image number 0, so that a tile does not depend on its batch."""
        tiles: list[Tile] = []
        for rows in _split(range(len(goals)), BATCH):
            rendering = render(
                self.model, PerImage([goals[i] for i in rows]), steps=self.steps, size=self.size, seed=self.seed,
                image_ids=[0] * len(rows), progress=self.progress,
            ).completed()  # fmt: skip
            responses = self._responses([units[i] for i in rows], rendering.images)
            tiles += [Tile(rendering, row, response) for row, response in enumerate(responses)]
        return tiles

    def _responses(self, units: Sequence[int], images: Tensor) -> list[GateResponse]:
        return measure_responses(self.model, self.natural, self.site, units, images, seed=self.seed)


def _analyse_excitation(
    model: TappedModel, site: str, natural: GateStatistics
) -> tuple[GateJacobian | None, ReachableRange | None, str]:
    """The Jacobian and the reachable range of a block, or the reason why it has none."""
    s = natural[site]
    try:
        jacobian = gate_jacobian(model, site, s.squeeze_mean, s.squeeze_sd)
    except ModelError as error:  # its logits are not a function of the squeeze
        return None, None, str(error)
    return jacobian, reachable_range(model, site, natural), ""


def _split(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
