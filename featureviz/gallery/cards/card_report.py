"""A gate card as plain values for ``report.json``, its pictures written beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featureviz.gallery.cards.plots import Axis
from featureviz.gallery.tiles import file_name, write_tile
from featureviz.lab.gates.card import Driver, GateCard, Tile
from featureviz.lab.statistics.examples import Sight
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.natural_range import LEVEL, Reach, Standing, gate_values
from featureviz.network.model import TappedModel
from featureviz.rendering.png import png, write_bytes

DRAWN = (0.001, 0.05, 0.5, 0.95, 0.999)  # the natural quantiles on a page
TILES = "tiles"  # the folder of the pictures
POINTS, STRIP, BINS = 300, 33, 64  # natural images in a scatter plot; steps of the value's strip; most bars


def entry(folder: Path, model: TappedModel, card: GateCard) -> dict[str, Any]:
    """Everything that a card shows; its pictures are written to ``folder / "tiles"``."""
    s, unit = card.natural[card.site.name], card.unit
    standings = [card.noise, *(tile.standing for tile in card.tiles.values())]
    ends = float(s.quantiles[0, unit]), float(s.quantiles[-1, unit])
    axis = Axis.around(ends, [standing.logit for standing in standings])
    ticks = axis.ticks()
    strip = torch.linspace(axis.low, axis.high, STRIP)

    def values(logits: Tensor | Sequence[float]) -> list[float]:
        return _rounded(gate_values(model, card.site, card.natural, unit, torch.as_tensor(logits)).tolist())

    return {
        "spec": card.spec, "site": card.site.name, "channel": unit, "block": card.site.kind,
        "gates in block": card.site.channels, "nonlinearity": type(card.site.nonlinearity).__name__,
        "page": str(Path(file_name(card.spec)).with_suffix(".html")),
        "natural": _natural(card, values),
        "axis": {
            "low": axis.low, "high": axis.high, "ticks": list(zip(ticks, values(ticks), strict=True)),
            "values": values(strip),
        },
        "noise": _standing(card.noise),
        "renders": {kind: _render(folder, kind, tile, card) for kind, tile in card.tiles.items()},
        "reach": {"up": _reach(card.up, values), "down": _reach(card.down, values)},
        "opens": [_driver(folder, driver) for driver in card.opens],
        "closes": [_driver(folder, driver) for driver in card.closes],
        "most": [_sight(folder, sight) for sight in card.most],
        "least": [_sight(folder, sight) for sight in card.least],
        "held": {way: {k: _number(v) for k, v in asdict(held).items()} for way, held in card.held.items()},
        "missing": card.missing,
    }  # fmt: skip


def _natural(card: GateCard, values: Any) -> dict[str, Any]:
    s, unit, site = card.natural[card.site.name], card.unit, card.site.name
    logits = [float(s.quantiles[LEVELS.index(q), unit]) for q in DRAWN]
    corners = {
        of: [float(card.natural.quantile(site, q, of=of)[unit]) for q in (1 - LEVEL, LEVEL)]
        for of in ("squeeze", "logits")
    }
    sample = torch.stack([s.squeeze_sample[:POINTS, unit], s.logit_sample[:POINTS, unit]], 1)
    start, width, counts = bars(
        s.histogram_counts[unit], float(s.histogram_start[unit]), float(s.histogram_width[unit]), card.natural.count
    )
    return {
        "images": card.natural.count,
        "value mean": _number(s.value_mean[unit]), "value sd": _number(s.value_sd[unit]),
        "logit mean": _number(s.logit_mean[unit]), "logit sd": _number(s.logit_sd[unit]),
        "closed": _number(s.closed[unit]), "opened": _number(s.opened[unit]),
        "quantiles": dict(zip(_levels(), _rounded(logits), strict=True)),
        "quantile values": dict(zip(_levels(), values(logits), strict=True)),
        "histogram": {"start": start, "width": width, "counts": counts},
        "corners": {"content": _rounded(corners["squeeze"]), "logit": _rounded(corners["logits"])},
        "sample": [_rounded(row) for row in sample.tolist()],
    }  # fmt: skip


def bars(counts: Tensor, start: float, width: float, images: int) -> tuple[float, float, list[int]]:
    """Neighbouring bins of ``[512]`` merged until there are as many as the images can fill (Rice: ``2 n^(1/3)``).

    Returns where the first bar begins, the width of one, and their counts.

    >>> bars(torch.tensor([1, 2, 0, 3, 4, 0, 0, 0]), 0.0, 0.5, 1)
    (0.0, 1.5, [3, 7])
    """
    used = max(1, int(counts.nonzero().max()) + 1)
    merged = -(-used // max(2, min(BINS, round(2 * images ** (1 / 3)))))
    kept = counts[:used]
    padded = torch.cat([kept, kept.new_zeros(-used % merged)])
    return start, width * merged, padded.view(-1, merged).sum(1).tolist()


def _render(folder: Path, kind: str, tile: Tile, card: GateCard) -> dict[str, Any]:
    spec = tile.rendering.specs[tile.row]
    found = {"file": _written(folder, spec, tile), **_standing(tile.standing)}
    if kind not in card.corners:
        return found
    content, gate = kind.split("-")
    there = dict(zip(("content", "gate"), tile.standing.reached(content, gate), strict=True))
    return {**found, "reached": there, "natural share": _number(card.corners[kind])}


def _driver(folder: Path, driver: Driver) -> dict[str, Any]:
    spec = driver.tile.rendering.specs[driver.tile.row]
    return {
        "channel": driver.channel, "strength": _number(driver.strength), "spec": spec,
        "file": _written(folder, spec, driver.tile), "own content": _number(driver.tile.standing.content),
        "own content percentile": _number(driver.tile.standing.content_percentile),
        "gate": _standing(driver.standing),
    }  # fmt: skip


def _written(folder: Path, spec: str, tile: Tile) -> str:
    return f"{TILES}/{write_tile(folder / TILES, spec, tile.rendering, tile.row)}"


def _sight(folder: Path, sight: Sight) -> dict[str, Any]:
    file = f"{TILES}/natural-{sight.image:06d}.png"
    write_bytes(folder / file, png(sight.picture))
    return {
        "image": sight.image, "name": sight.name, "file": file,
        "logit": _number(sight.logit), "value": _number(sight.value),
    }  # fmt: skip


def _reach(reach: Reach, values: Any) -> dict[str, Any]:
    found = {k: _number(v) if isinstance(v, float) else v for k, v in asdict(reach).items()}
    bound = None if reach.bound is None else values([reach.bound])[0]
    return {**found, "verdict": reach.verdict, "picture value": values([reach.picture])[0], "bound value": bound}


def _standing(standing: Standing) -> dict[str, Any]:
    return {k.replace("_", " "): _number(v) for k, v in asdict(standing).items()}


def _levels() -> list[str]:
    return [f"{100 * q:g}" for q in DRAWN]


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = float(value)
    return round(value, 5) if isinstance(value, float) else value


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(v, 5) for v in values]
