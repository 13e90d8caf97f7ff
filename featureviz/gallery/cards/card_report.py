"""A gate card as plain values for ``report.json``, with its pictures as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featureviz.files import make_file_name, write_bytes
from featureviz.gallery.cards.plots import PlotAxis
from featureviz.gallery.tiles import to_json, write_tile
from featureviz.lab.effects.ablation import Ablation
from featureviz.lab.gates.card import Driver, GateCard, Tile
from featureviz.lab.gates.natural_range import LEVEL, GateResponse, Reach, gate_values
from featureviz.lab.statistics.examples import ExampleImage
from featureviz.lab.statistics.gate_statistics import LEVELS, GateStatistics
from featureviz.network.model import TappedModel
from featureviz.rendering.png import encode_png

DRAWN = (0.001, 0.05, 0.5, 0.95, 0.999)  # the natural quantiles on a page
DRAWN_LEVELS = tuple(f"{100 * level:g}" for level in DRAWN)
TILES = "tiles"  # the folder of the pictures
POINTS, STRIP, BINS = 300, 33, 64  # points of a scatter plot; colours of the strip of values; most bars

Values = Callable[[Tensor | Sequence[float]], list[float]]  # logits of a gate to its values


def write_tiles(folder: Path, model: TappedModel, card: GateCard) -> dict[str, Any]:
    """Write the pictures of a card to ``folder / "tiles"``; returns its entry in the report."""
    s, unit, site = card.natural[card.site.name], card.unit, card.site
    responses = [card.noise, *(tile.response for tile in card.tiles.values())]
    ends = float(s.quantiles[0, unit]), float(s.quantiles[-1, unit])
    axis = PlotAxis.around(ends, [response.logit for response in responses])
    ticks = axis.ticks()

    def values(logits: Tensor | Sequence[float]) -> list[float]:
        return to_json(gate_values(model, site, card.natural, unit, torch.as_tensor(logits)))

    return {
        "spec": card.spec, "site": site.name, "channel": unit, "block": site.kind,
        "gates in block": site.channels, "nonlinearity": type(site.nonlinearity).__name__,
        "page": str(Path(make_file_name(card.spec)).with_suffix(".html")),
        "natural": _describe_natural(card, values),
        "axis": {
            "low": axis.low, "high": axis.high, "ticks": list(zip(ticks, values(ticks), strict=True)),
            "values": values(torch.linspace(axis.low, axis.high, STRIP)),
        },
        "noise": _describe_response(card.noise),
        "renders": {kind: _write_render(folder, kind, tile, card) for kind, tile in card.tiles.items()},
        "reach": {"up": _describe_reach(card.up, values), "down": _describe_reach(card.down, values)},
        "opens": [_write_driver(folder, driver) for driver in card.opens],
        "closes": [_write_driver(folder, driver) for driver in card.closes],
        "most": [_write_example(folder, example) for example in card.most],
        "least": [_write_example(folder, example) for example in card.least],
        "held": {way: _describe_ablation(ablation) for way, ablation in card.ablations.items()},
        "missing": card.missing,
    }  # fmt: skip


def read_quantiles(natural: GateStatistics, site: str, unit: int) -> Tensor:
    """The natural logits of a gate at the levels ``DRAWN``."""
    return natural[site].quantiles[[LEVELS.index(level) for level in DRAWN], unit].float()


def _describe_natural(card: GateCard, values: Values) -> dict[str, Any]:
    natural, unit, site = card.natural, card.unit, card.site.name
    s, logits = natural[site], read_quantiles(card.natural, site, unit)
    channel, gate = (
        [natural.quantile(site, level, of=kind)[unit] for level in (1 - LEVEL, LEVEL)] for kind in ("squeeze", "logits")
    )
    sample = torch.stack([s.squeeze_sample[:POINTS, unit], s.logit_sample[:POINTS, unit]], 1)
    start, width, counts = merge_bins(
        s.histogram_counts[unit], float(s.histogram_start[unit]), float(s.histogram_width[unit]), natural.count
    )
    return {
        "images": natural.count,
        **to_json({
            "value mean": s.value_mean[unit], "value sd": s.value_sd[unit],
            "logit mean": s.logit_mean[unit], "logit sd": s.logit_sd[unit],
            "closed": s.closed[unit], "opened": s.opened[unit],
            "quantiles": dict(zip(DRAWN_LEVELS, logits, strict=True)),
        }),
        "quantile values": dict(zip(DRAWN_LEVELS, values(logits), strict=True)),
        "histogram": {"start": start, "width": width, "counts": counts},
        "corners": to_json({"content": channel, "logit": gate}),
        "sample": to_json(sample),
    }  # fmt: skip


def merge_bins(counts: Tensor, start: float, width: float, images: int) -> tuple[float, float, list[int]]:
    """Merge neighbouring bins of ``[512]`` so that the images fill them (Rice's rule, ``2 n^(1/3)`` bins).

    Returns the start of the first bin, the width of a bin, and the counts.

    >>> merge_bins(torch.tensor([1, 2, 0, 3, 4, 0, 0, 0]), 0.0, 0.5, 1)
    (0.0, 1.5, [3, 7])
    """
    used = max(1, int(counts.nonzero().max()) + 1)
    merged = -(-used // max(2, min(BINS, round(2 * images ** (1 / 3)))))
    kept = counts[:used]
    padded = torch.cat([kept, kept.new_zeros(-used % merged)])
    return start, width * merged, padded.view(-1, merged).sum(1).tolist()


def _write_render(folder: Path, kind: str, tile: Tile, card: GateCard) -> dict[str, Any]:
    entry = {"file": _write_tile(folder, tile), **_describe_response(tile.response)}
    if kind not in card.corners:
        return entry
    reached = dict(zip(("content", "gate"), tile.response.reached(*kind.split("-")), strict=True))
    return {**entry, "reached": reached, "natural share": to_json(card.corners[kind])}


def _write_driver(folder: Path, driver: Driver) -> dict[str, Any]:
    own = driver.tile.response
    return {
        "channel": driver.channel, "strength": to_json(driver.strength),
        "spec": driver.tile.rendering.specs[driver.tile.row], "file": _write_tile(folder, driver.tile),
        "own content": to_json(own.content), "own content percentile": to_json(own.content_percentile),
        "gate": _describe_response(driver.response),
    }  # fmt: skip


def _write_tile(folder: Path, tile: Tile) -> str:
    return f"{TILES}/{write_tile(folder / TILES, tile.rendering.specs[tile.row], tile.rendering, tile.row)}"


def _write_example(folder: Path, example: ExampleImage) -> dict[str, Any]:
    file = f"{TILES}/natural-{example.image:06d}.png"
    write_bytes(folder / file, encode_png(example.picture))
    return {
        "image": example.image, "name": example.name, "file": file,
        "logit": to_json(example.logit), "value": to_json(example.value),
    }  # fmt: skip


def _describe_reach(reach: Reach, values: Values) -> dict[str, Any]:
    bound = None if reach.bound is None else values([reach.bound])[0]
    return {
        **to_json(asdict(reach)), "verdict": reach.verdict, "picture value": values([reach.picture])[0],
        "bound value": bound,
    }  # fmt: skip


def _describe_response(response: GateResponse) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in to_json(asdict(response)).items()}


def _describe_ablation(ablation: Ablation) -> dict[str, Any]:
    return {name: to_json(value) for name, value in asdict(ablation).items() if name not in ("site", "way")}
