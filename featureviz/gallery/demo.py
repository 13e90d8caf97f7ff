"""The first thing a newcomer sees: what opens and what closes twelve gates of the embedded network."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor
from tqdm import tqdm

from featureviz.gallery.cards.cards import choose
from featureviz.gallery.page import Card, Picture, Range, write_page
from featureviz.gallery.tiles import rounded, writable, write_report, write_sheet, write_tile
from featureviz.image import FourierImage
from featureviz.lab.embedded_gates import natural_gates
from featureviz.lab.statistics.gate_statistics import LEVELS, GateStatistics
from featureviz.models.embedded import load
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import PerImage
from featureviz.objectives.leaves import Gate
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate
from featureviz.rendering.rendering import Rendering

OPEN, SHUT = 0.95, 0.05  # what counts as having been opened or closed
DRAWN = (0.001, 0.05, 0.5, 0.95, 0.999)  # the natural quantiles on a card


@final
@dataclass(frozen=True)
class _Shown:
    """One gate: its two rows of a rendering, and the gate's values and logits on the noise that they began as."""

    gate: Gate
    rendering: Rendering
    row: int
    noise: Tensor
    noise_logits: Tensor
    seconds: float


def demo(
    out: str | os.PathLike[str] = "gallery",
    *,
    count: int = 12,
    steps: int = 160,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Render what excites and what suppresses ``count`` gates of the embedded network; returns ``out/index.html``.

    The gates are spread over the network's depth, in each block those that vary most between photographs.
    """
    folder, started = writable(out), time.perf_counter()
    model, natural = load(), natural_gates()
    shown: list[_Shown] = []
    chosen = choose(list(model.gates), natural, count)
    with tqdm(total=2 * count, desc="gates opened and closed", unit="image", disable=not progress) as bar:
        for site, units in chosen.items():
            shown += _render(model, site, units, steps, size, seed)
            bar.update(2 * len(units))
    entries, cards, images = [], [], list[Tensor]()
    for gate in shown:
        entry, card = _entry(folder, gate, natural)
        entries.append(entry)
        cards.append(card)
        images += gate.rendering.images[gate.row : gate.row + 2]
    write_sheet(folder, images, columns=6)
    seconds = time.perf_counter() - started
    opened = sum(e["excited"]["mean"] >= OPEN and e["suppressed"]["mean"] <= SHUT for e in entries)
    beyond = sum(e["excited"]["percentile"] >= 99.9 and e["suppressed"]["percentile"] <= 0.1 for e in entries)
    recipe = {k: v for k, v in shown[0].rendering.recipe.items() if k not in ("spec", "image_ids")}
    write_report(
        folder,
        {
            "model": model.name, "natural images": natural.count, "seconds": round(seconds, 1),
            "opened and closed": opened, "beyond nature both ways": beyond, "recipe": recipe, "gates": entries,
        },
    )  # fmt: skip
    intro = [
        "A squeeze-and-excitation gate looks at a whole picture and decides how much of one channel may pass: 1 lets it"
        " through, 0 shuts it off. Below, gradient ascent has painted, from noise, what <strong>opens</strong> and what"
        f" <strong>closes</strong> {len(shown)} gates of the small MobileNetV3 that ships with featureviz, early"
        " blocks first.",
        "Values are means over 16 shifted, scaled and rotated views that the ascent never saw."
        f" {beyond} of {len(shown)} gates end beyond the 99.9th and below the 0.1th percentile of {natural.count:,}"
        f" natural pictures (crops of photographs and textures with objects pasted on them, none of them trained on);"
        f" {opened} reach {OPEN} and {SHUT}. Percentiles are of the gate's logit, which still orders pictures where the"
        " value has arrived at 0 or 1.",
    ]
    footer = f"featureviz demo: {seconds:.0f} seconds, {steps} steps each. Every figure is in report.json."
    return write_page(folder, "What opens a gate, and what closes it", intro, cards, footer)


def _render(model: TappedModel, site: str, units: list[int], steps: int, size: int, seed: int) -> list[_Shown]:
    """Both pictures of each unit of one block, in one batch."""
    started = time.perf_counter()
    gates = [Gate(site, unit) for unit in units]
    goal = PerImage([g for gate in gates for g in (gate, -gate)])
    noise = evaluate(model, goal, FourierImage(goal.n, size, seed=seed)().detach(), seed=seed)
    made = render(model, goal, steps=steps, size=size, seed=seed, progress=False)
    if made.interrupted:
        raise KeyboardInterrupt  # half a demo is none
    each = (time.perf_counter() - started) / len(units)
    return [
        _Shown(gate, made, 2 * i, noise.gates[2 * i][gate.spec], noise.logits[2 * i][gate.spec], each)
        for i, gate in enumerate(gates)
    ]


def _entry(folder: Path, shown: _Shown, natural: GateStatistics) -> tuple[dict[str, Any], Card]:
    """Write the gate's two tiles; its entry in the report and its card on the page."""
    site, unit = shown.gate.site_name, shown.gate.units[0]
    statistics, spec = natural[site], shown.gate.spec
    quantiles = {f"{100 * q:g}": round(_value(statistics.quantiles[LEVELS.index(q), unit]), 4) for q in DRAWN}
    entry: dict[str, Any] = {
        "site": site, "channel": unit, "seconds": round(shown.seconds, 2),
        "value on noise": round(float(shown.noise.mean()), 4),
        "percentile of noise": _percentile(natural, site, unit, shown.noise_logits),
        "natural mean": round(float(statistics.value_mean[unit]), 4),
        "natural sd": round(float(statistics.value_sd[unit]), 4),
        "natural quantiles": quantiles,
    }  # fmt: skip
    pictures = []
    for i, (name, sign, tone) in enumerate((("excited", "", "open"), ("suppressed", "-", "shut"))):
        row, held_out = shown.row + i, shown.rendering.held_out
        values = held_out.gates[row][spec]
        entry[name] = {
            "file": write_tile(folder, f"{sign}{spec}", shown.rendering, row),
            "mean": round(float(values.mean()), 4), "values": rounded(values, 4),
            "percentile": _percentile(natural, site, unit, held_out.logits[row][spec]),
        }  # fmt: skip
        standing = _standing(entry[name]["percentile"])
        pictures.append(Picture(entry[name]["file"], f"{name} {entry[name]['mean']:.2f}", standing, tone))
    low, *_, high = quantiles.values()
    noise, percentile = entry["value on noise"], entry["percentile of noise"]
    marks = [("noise", noise), ("shut", entry["suppressed"]["mean"]), ("open", entry["excited"]["mean"])]
    card = Card(
        title=spec,
        subtitle=f"natural pictures {low:.2f} to {high:.2f}, noise {noise:.2f} (percentile {percentile:.1f})",
        pictures=pictures,
        range=Range(tuple(quantiles.values()), marks),
        remark=_remark(entry),
    )
    return entry, card


def _percentile(natural: GateStatistics, site: str, unit: int, logits: Tensor) -> float:
    """Of the mean logit over the draws."""
    return round(float(natural.percentile(site, unit, logits.mean()[None])), 3)


def _standing(percentile: float) -> str:
    if percentile >= 100:
        return "above every natural picture"
    if percentile <= 0:
        return "below every natural picture"
    return f"percentile {percentile:g} of natural pictures"


def _remark(entry: dict[str, Any]) -> str:
    missed = [f"{OPEN}"] * (entry["excited"]["mean"] < OPEN) + [f"{SHUT}"] * (entry["suppressed"]["mean"] > SHUT)
    return f"No picture was found that brings it to {' or '.join(missed)}." if missed else ""


def _value(logit: Tensor) -> float:
    return float((logit / 6 + 0.5).clamp(0, 1))  # the embedded network's gates are hard-sigmoids
