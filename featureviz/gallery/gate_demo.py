"""The demo: what opens and what closes some gates of the embedded network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor
from tqdm import tqdm

from featureviz.files import check_writable, write_json
from featureviz.gallery.cards.card_report import DRAWN_LEVELS, read_quantiles
from featureviz.gallery.cards.entry import choose_gates
from featureviz.gallery.page import GATE_INTRO, Card, GateTile, make_gate_card, write_page
from featureviz.gallery.tiles import to_json, write_sheet, write_tile
from featureviz.image import FourierImage
from featureviz.lab.embedded_gates import natural_gates
from featureviz.lab.gates.natural_range import gate_values
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.measuring import OPEN, SHUT
from featureviz.models.embedded import load
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import PerImage
from featureviz.objectives.gate_leaves import Gate
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import evaluate
from featureviz.rendering.presets import DEMO_STEPS
from featureviz.rendering.rendering import Rendering


@final
@dataclass(frozen=True)
class _Pair:
    """One gate: rows ``row`` and ``row + 1`` of a rendering, and its values and logits on the noise they began as."""

    gate: Gate
    rendering: Rendering
    row: int
    noise: Tensor
    noise_logits: Tensor
    seconds: float


def render_demo(
    out: str | os.PathLike[str] = "gallery",
    *,
    count: int = 12,
    steps: int = DEMO_STEPS,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Render what excites and what suppresses ``count`` gates of the embedded network; returns ``out/index.html``.

    The gates are spread over the blocks; of each block those are taken that vary most between photographs.
    """
    folder, started = check_writable(out), time.perf_counter()
    model, natural = load(), natural_gates()
    chosen = choose_gates(list(model.gates), natural, count)
    pairs: list[_Pair] = []
    with tqdm(total=2 * count, desc="gates opened and closed", unit="image", disable=not progress) as bar:
        for site, units in chosen.items():
            pairs += _render_pairs(model, site, units, steps, size, seed)
            bar.update(2 * len(units))
    entries = [_write_entry(folder, model, pair, natural) for pair in pairs]
    write_sheet(folder, [pair.rendering.images[pair.row + i] for pair in pairs for i in range(2)], columns=6)
    counts = {
        "opened and closed": sum(
            e["excited"]["mean"] >= OPEN and e["suppressed"]["mean"] <= SHUT for e in entries
        ),
        "beyond natural pictures both ways": sum(
            e["excited"]["percentile"] >= 99.9 and e["suppressed"]["percentile"] <= 0.1 for e in entries
        ),
    }  # fmt: skip
    recipe = {k: v for k, v in pairs[0].rendering.recipe.items() if k not in ("spec", "image_ids")}
    seconds = time.perf_counter() - started
    report = {"model": model.name, "natural images": natural.count, "seconds": round(seconds, 1), **counts}
    write_json(folder / "report.json", {**report, "recipe": recipe, "gates": entries})
    footer = f"featureviz demo: {seconds:.0f} seconds, {steps} steps per image. All figures are in report.json."
    intro = _introduce(natural.count, len(entries), *counts.values())
    return write_page(folder, "What opens a gate, and what closes it", intro, [_make_card(e) for e in entries], footer)


def _render_pairs(model: TappedModel, site: str, units: Sequence[int], steps: int, size: int, seed: int) -> list[_Pair]:
    """Both pictures of each unit of one block, in one batch."""
    started = time.perf_counter()
    gates = [Gate(site, unit) for unit in units]
    goal = PerImage([signed for gate in gates for signed in (gate, -gate)])
    noise = evaluate(model, goal, FourierImage(goal.n, size, seed=seed)().detach(), seed=seed)
    rendering = render(model, goal, steps=steps, size=size, seed=seed, progress=False)
    if rendering.interrupted:
        raise KeyboardInterrupt  # an unfinished demo is not written
    seconds = (time.perf_counter() - started) / len(units)
    return [
        _Pair(gate, rendering, 2 * i, noise.gates[2 * i][gate.spec], noise.logits[2 * i][gate.spec], seconds)
        for i, gate in enumerate(gates)
    ]


def _write_entry(folder: Path, model: TappedModel, pair: _Pair, natural: GateStatistics) -> dict[str, Any]:
    """Write the two tiles of a gate; returns its entry in the report."""
    site, unit, spec = pair.gate.site_name, pair.gate.units[0], pair.gate.spec

    def percentile(logits: Tensor) -> float:
        return round(float(natural.percentile(site, unit, logits.mean()[None])), 3)

    values = gate_values(model, model.gates[site], natural, unit, read_quantiles(natural, site, unit))
    entry = {
        "spec": spec, "site": site, "channel": unit, "seconds": round(pair.seconds, 2),
        "value on noise": to_json(pair.noise.mean(), 4), "percentile of noise": percentile(pair.noise_logits),
        "natural mean": to_json(natural[site].value_mean[unit], 4),
        "natural sd": to_json(natural[site].value_sd[unit], 4),
        "natural quantiles": dict(zip(DRAWN_LEVELS, to_json(values, 4), strict=True)),
    }  # fmt: skip
    for row, name, sign in ((pair.row, "excited", ""), (pair.row + 1, "suppressed", "-")):
        held_out = pair.rendering.held_out
        entry[name] = {
            "file": write_tile(folder, f"{sign}{spec}", pair.rendering, row),
            "mean": to_json(held_out.gates[row][spec].mean(), 4), "values": to_json(held_out.gates[row][spec], 4),
            "percentile": percentile(held_out.logits[row][spec]),
        }  # fmt: skip
    return entry


def _introduce(pictures: int, gates: int, opened: int, beyond: int) -> list[str]:
    """The paragraphs at the head of the page."""
    return [
        f"{GATE_INTRO} Gradient ascent rendered from noise what <strong>opens</strong> and what"
        f" <strong>closes</strong> {gates} gates of the small MobileNetV3 in this package. Early blocks come first.",
        "Values are means over 16 shifted, scaled and rotated views that the ascent did not use. They are compared with"
        f" {pictures:,} natural pictures: crops of photographs and textures with objects pasted on them, which the"
        f" network was not trained on. {beyond} of {gates} gates end above the 99.9th and below the 0.1th percentile of"
        f" these; {opened} reach {OPEN} and {SHUT}. Percentiles are those of the gate's logit, because the value of a"
        " gate cannot go beyond 0 or 1.",
    ]


def _make_card(e: Mapping[str, Any]) -> Card:
    """A gate on the page, from its entry in the report."""
    quantiles, noise = tuple(e["natural quantiles"].values()), e["value on noise"]
    missed = [str(OPEN)] * (e["excited"]["mean"] < OPEN) + [str(SHUT)] * (e["suppressed"]["mean"] > SHUT)
    low, *_, high = quantiles
    excited, suppressed = (
        GateTile(e[name]["file"], e[name]["mean"], e[name]["percentile"]) for name in ("excited", "suppressed")
    )
    on_noise = f"noise {noise:.2f} (percentile {e['percentile of noise']:.1f})"
    subtitle = f"natural pictures {low:.2f} to {high:.2f}, {on_noise}"
    remark = f"The ascent found no picture that brings it to {' or '.join(missed)}." if missed else ""
    return make_gate_card(e["spec"], subtitle, quantiles, noise, excited, suppressed, remark)
