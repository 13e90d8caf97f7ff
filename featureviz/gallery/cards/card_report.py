"""A gate card as plain values for ``report.json``, with its pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from featureviz.files import make_file_name, write_bytes
from featureviz.gallery.folder import TILES
from featureviz.gallery.site.plot_axis import PlotAxis, merge_bins
from featureviz.gallery.tiles import to_json, write_tile
from featureviz.lab.gates.card import EXCITED, SUPPRESSED, Driver, GateCard, Tile
from featureviz.lab.gates.natural_range import LEVEL, Reach, gate_values
from featureviz.lab.statistics.examples import ExampleImage
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.likeness import natural_distance, path_scores
from featureviz.network.model import TappedModel
from featureviz.objectives.gate_leaves import Gate
from featureviz.rendering.png import encode_png

DRAWN = (0.001, 0.05, 0.5, 0.95, 0.999)  # the natural quantiles on a page
POINTS = 300  # of a scatter plot


def write_tiles(folder: Path, model: TappedModel, card: GateCard) -> dict[str, Any]:
    """Write the pictures of a card to ``folder / "tiles"``; returns its entry in the report."""
    natural, unit, site = card.natural, card.unit, card.site
    low, *_, high = natural[site.name].quantiles[:, unit].tolist()
    axis = PlotAxis.around((low, high), [card.noise.logit, *(tile.response.logit for tile in card.tiles.values())])
    ticks = torch.tensor(axis.ticks())
    tick_values = gate_values(model, site, natural, unit, ticks)
    entry = describe_gate(model, natural, site.name, unit)
    entry["natural"] |= _describe_samples(natural, site.name, unit)
    renders = {kind: _write_render(folder, kind, tile, card) for kind, tile in card.tiles.items()}
    for kind, believable in _describe_ends(model, card).items():
        renders[kind] |= believable
    return to_json({
        **entry, "block": site.kind, "gates in block": site.channels,
        "nonlinearity": type(site.nonlinearity).__name__,
        "page": make_file_name(card.spec, ".html"),
        "axis": {"low": axis.low, "high": axis.high, "ticks": list(zip(ticks, tick_values, strict=True))},
        "noise": card.noise,
        "renders": renders, "path score": _score_path(model, card),
        "reach": {"up": _describe_reach(card.up, model, card), "down": _describe_reach(card.down, model, card)},
        "opens": [_write_driver(folder, driver) for driver in card.opens],
        "closes": [_write_driver(folder, driver) for driver in card.closes],
        "most": [_write_example(folder, example) for example in card.most],
        "least": [_write_example(folder, example) for example in card.least],
        "ablations": dict(card.ablations), "missing": card.missing,
    })  # fmt: skip


def describe_gate(model: TappedModel, natural: GateStatistics, site: str, unit: int) -> dict[str, Any]:
    """A gate and its values on natural pictures, as all pages show them."""
    s, names = natural[site], [f"{100 * level:g}" for level in DRAWN]
    logits = torch.stack([natural.quantile(site, level)[unit] for level in DRAWN]).float()
    values = gate_values(model, model.gates[site], natural, unit, logits)
    about = {
        "images": natural.count, "value mean": s.value_mean[unit], "value sd": s.value_sd[unit],
        "logit mean": s.logit_mean[unit], "logit sd": s.logit_sd[unit],
        "closed": s.closed[unit], "opened": s.opened[unit],
        "quantiles": dict(zip(names, logits, strict=True)), "quantile values": dict(zip(names, values, strict=True)),
    }  # fmt: skip
    return {"spec": Gate(site, unit).spec, "site": site, "channel": unit, "natural": about}


def _describe_samples(natural: GateStatistics, site: str, unit: int) -> dict[str, Any]:
    s, levels = natural[site], (1 - LEVEL, LEVEL)
    start, width = float(s.histogram_start[unit]), float(s.histogram_width[unit])
    return {
        "histogram": merge_bins(start, width, s.histogram_counts[unit].tolist()),
        "corners": {
            "content": [natural.quantile(site, level, of="squeeze")[unit] for level in levels],
            "logit": [natural.quantile(site, level)[unit] for level in levels],
        },
        "sample": torch.stack([s.squeeze_sample[:POINTS, unit], s.logit_sample[:POINTS, unit]], 1),
    }


def _write_render(folder: Path, kind: str, tile: Tile, card: GateCard) -> dict[str, Any]:
    entry = {"file": _write_tile(folder, tile), **to_json(tile.response)}
    if kind in card.corners:
        entry["reached"] = dict(zip(("content", "gate"), tile.response.reached(*kind.split("-")), strict=True))
        entry["natural share"] = card.corners[kind]
    return entry


def _describe_ends(model: TappedModel, card: GateCard) -> dict[str, dict[str, Any]]:
    """How believable the pictures of both ends are: the gate's logit on unseen views, and their natural distance."""
    tiles = {EXCITED: card.tiles[EXCITED], SUPPRESSED: card.tiles[SUPPRESSED]}
    distances = natural_distance(model, torch.stack([tile.image for tile in tiles.values()]), card.natural)
    described = dict[str, dict[str, Any]]()
    for (kind, tile), sign, distance in zip(tiles.items(), (1, -1), distances, strict=True):
        unseen = {way: sign * scores[tile.row] for way, scores in tile.rendering.held_out.unseen.items()}
        described[kind] = to_json({"unseen": unseen, "distance": distance})
    return described


def _score_path(model: TappedModel, card: GateCard) -> float | None:
    """The path score of the excited picture; None for the first block, which no path leads to."""
    if next(iter(model.gates.channelwise)) == card.site.name:
        return None
    return float(path_scores(model, card.site.name, [card.unit], card.tiles[EXCITED].image, card.natural))


def _write_driver(folder: Path, driver: Driver) -> dict[str, Any]:
    file = _write_tile(folder, driver.tile)
    return {"channel": driver.channel, "strength": driver.strength, "file": file, "gate": driver.response}


def _write_tile(folder: Path, tile: Tile) -> str:
    return f"{TILES}/{write_tile(folder / TILES, tile.rendering.specs[tile.row], tile.rendering, tile.row)}"


def _write_example(folder: Path, example: ExampleImage) -> dict[str, Any]:
    file = f"{TILES}/{make_file_name(f'natural {example.image}')}"
    write_bytes(folder / file, encode_png(example.picture))
    return {"file": file, **{key: getattr(example, key) for key in ("image", "name", "logit", "value")}}


def _describe_reach(reach: Reach, model: TappedModel, card: GateCard) -> dict[str, Any]:
    logits = torch.tensor([reach.picture, reach.picture if reach.bound is None else reach.bound])
    picture, bound = gate_values(model, card.site, card.natural, card.unit, logits)
    values = {"picture value": picture, "bound value": None if reach.bound is None else bound}
    return to_json(reach) | {"verdict": reach.verdict, **values}
