"""The first thing a newcomer sees: what opens and what closes twelve gates of the embedded network."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor
from tqdm import tqdm

from featureviz.evaluate import evaluate
from featureviz.gallery.page import Card, Picture, Range, write_page
from featureviz.gallery.tiles import writable, write_report, write_sheet, write_tile
from featureviz.image import FourierImage
from featureviz.lab.statistics import LEVELS, GateStatistics
from featureviz.model import TappedModel
from featureviz.models.embedded import load, natural_gates
from featureviz.objective import PerImage
from featureviz.objectives import Gate
from featureviz.render import render
from featureviz.rendering import Rendering

OPEN, SHUT = 0.95, 0.05  # what counts as having been opened or closed


@final
@dataclass(frozen=True)
class _Shown:
    """One gate: its value on noise, and two renders with their values on 16 held-out draws."""

    site: str
    unit: int
    noise: Tensor
    images: tuple[Tensor, Tensor]
    values: tuple[Tensor, Tensor]
    logits: tuple[Tensor, Tensor]
    seconds: float
    recipe: dict[str, Any]


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
    chosen = choose(model, natural, count)
    with tqdm(total=2 * count, desc="gates opened and closed", unit="image", disable=not progress) as bar:
        for site, units in chosen.items():
            shown += _render(model, site, units, steps, size, seed)
            bar.update(2 * len(units))
    entries, cards, images = [], [], []
    for gate in shown:
        entry, card = _entry(folder, gate, natural)
        entries.append(entry)
        cards.append(card)
        images += gate.images
    write_sheet(folder, images, columns=6)
    seconds = time.perf_counter() - started
    opened = sum(e["excited"]["mean"] >= OPEN and e["suppressed"]["mean"] <= SHUT for e in entries)
    beyond = sum(e["excited"]["percentile"] >= 99.9 and e["suppressed"]["percentile"] <= 0.1 for e in entries)
    write_report(
        folder,
        {
            "model": model.name, "natural images": natural.count, "seconds": round(seconds, 1),
            "opened and closed": opened, "beyond nature both ways": beyond, "recipe": shown[0].recipe, "gates": entries,
        },
    )  # fmt: skip
    intro = [
        "A squeeze-and-excitation gate looks at a whole picture and decides how much of one channel may pass: 1 lets it"
        " through, 0 shuts it off. Below, gradient ascent has painted, from noise, what <strong>opens</strong> and what"
        f" <strong>closes</strong> {len(shown)} gates of the small MobileNetV3 that ships with featureviz, early"
        " blocks first.",
        "Values are means over 16 shifted, scaled and rotated views that the ascent never saw."
        f" {beyond} of {len(shown)} gates end beyond the 99.9th and below the 0.1th percentile of {natural.count:,}"
        f" natural pictures; {opened} reach {OPEN} and {SHUT}.",
    ]
    footer = f"featureviz demo: {seconds:.0f} seconds, {steps} steps each. Every figure is in report.json."
    return write_page(folder, "What opens a gate, and what closes it", intro, cards, footer)


def choose(model: TappedModel, natural: GateStatistics, count: int) -> dict[str, list[int]]:
    """Units by block, spread over all blocks, the deepest first in line for a second: the most varying in each."""
    sites = list(model.gates)
    share = dict.fromkeys(sites, 0)
    for i in range(count):
        share[sites[-1 - i % len(sites)]] += 1
    ranked = {site: natural[site].value_sd.argsort(descending=True).tolist() for site in sites}
    return {site: ranked[site][:n] for site, n in share.items() if n}


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
    return [_shown(made, noise.gates[2 * i][gate.spec], gate, 2 * i, each) for i, gate in enumerate(gates)]


def _shown(made: Rendering, noise: Tensor, gate: Gate, row: int, seconds: float) -> _Shown:
    held = made.held_out
    return _Shown(
        site=gate.site_name,
        unit=gate.units[0],
        noise=noise,
        images=(made.images[row], made.images[row + 1]),
        values=(held.gates[row][gate.spec], held.gates[row + 1][gate.spec]),
        logits=(held.logits[row][gate.spec], held.logits[row + 1][gate.spec]),
        seconds=seconds,
        recipe={k: v for k, v in made.recipe.items() if k != "spec"},
    )


def _entry(folder: Path, gate: _Shown, natural: GateStatistics) -> tuple[dict[str, Any], Card]:
    """Write the gate's two tiles; its entry in the report and its card on the page."""
    site, unit = gate.site, gate.unit
    statistics = natural[site]
    noise = float(gate.noise.mean())
    entry: dict[str, Any] = {
        "site": site, "channel": unit, "seconds": round(gate.seconds, 2), "value on noise": round(noise, 4),
        "natural mean": round(float(statistics.value_mean[unit]), 4),
        "natural sd": round(float(statistics.value_sd[unit]), 4),
    }  # fmt: skip
    pictures = []
    for i, (name, sign, tone) in enumerate((("excited", "", "open"), ("suppressed", "-", "shut"))):
        spec = f"{sign}gate:{site}:{unit}"
        file = write_tile(folder, spec, gate.images[i], gate.recipe)
        mean = float(gate.values[i].mean())
        percentile = float(natural.percentile(site, unit, gate.logits[i].mean()[None]))
        entry[name] = {
            "file": file, "mean": round(mean, 4), "values": [round(v, 4) for v in gate.values[i].tolist()],
            "percentile": round(percentile, 3),
        }  # fmt: skip
        pictures.append(Picture(file, f"{name} {mean:.2f}", _standing(percentile), tone))
    levels = [LEVELS.index(level) for level in (0.001, 0.05, 0.5, 0.95, 0.999)]
    low, q5, middle, q95, high = (_value(statistics.quantiles[level, unit]) for level in levels)
    marks = (("noise", noise), ("shut", entry["suppressed"]["mean"]), ("open", entry["excited"]["mean"]))
    card = Card(
        title=f"{site} : {unit}",
        subtitle=f"photographs give {low:.2f} to {high:.2f}, noise {noise:.2f}",
        pictures=pictures,
        range=Range((low, q5, middle, q95, high), marks),
        remark=_remark(entry),
    )
    return entry, card


def _standing(percentile: float) -> str:
    if percentile >= 100:
        return "above every natural picture"
    if percentile <= 0:
        return "below every natural picture"
    return f"percentile {percentile:.1f} of natural pictures"


def _remark(entry: dict[str, Any]) -> str:
    missed = [
        word
        for word, reached in (
            ("opens", entry["excited"]["mean"] >= OPEN),
            ("closes", entry["suppressed"]["mean"] <= SHUT),
        )
        if not reached
    ]
    return f"No picture was found that {' or '.join(missed)} it all the way." if missed else ""


def _value(logit: Tensor) -> float:
    return float((logit / 6 + 0.5).clamp(0, 1))  # the embedded network's gates are hard-sigmoids
