"""The demo: what opens and what closes some gates of the embedded network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featureviz.files import write_json
from featureviz.gallery.cards.card_report import describe_gate
from featureviz.gallery.cards.entry import choose_gates
from featureviz.gallery.folder import PAGE, REPORT, STYLE, clear_folder, prepare_folder
from featureviz.gallery.site.pages import write_assets, write_page
from featureviz.gallery.tiles import get_shared, to_json, write_sheet, write_tile
from featureviz.image import FourierImage
from featureviz.lab.statistics.gate_statistics import GateStatistics, natural_gates
from featureviz.lab.statistics.likeness import natural_distance
from featureviz.lab.statistics.measuring import OPEN, SHUT
from featureviz.models.embedded import load
from featureviz.network.model import TappedModel
from featureviz.network.surroundings import progress_bar
from featureviz.objectives.algebra import PerImage
from featureviz.objectives.gate_leaves import Gate
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import HeldOut, evaluate
from featureviz.rendering.presets import STEPS
from featureviz.rendering.rendering import Rendering

_Pair = tuple[dict[str, Any], Rendering, int]  # a gate's entry in the report; the rows i and i + 1 of a rendering


def render_demo(
    out: str | os.PathLike[str] = "gallery",
    *,
    count: int = 12,
    steps: int = STEPS,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Render what excites and what suppresses ``count`` gates of the embedded network; returns ``out/index.html``.

    The gates are spread over the blocks; of each block those are taken that vary most between photographs. After
    Ctrl-C, which is raised, the gates that are done are written.
    """
    folder, started = prepare_folder(out), time.perf_counter()
    model, natural = load(), natural_gates()
    pairs, cut_short = list[_Pair](), False
    with progress_bar(progress, total=2 * count, desc="gates opened and closed", unit="image") as bar:
        try:
            for site, units in choose_gates(list(model.gates), natural, count).items():
                pairs += _render_pairs(model, natural, site, units, steps, size, seed)
                if bar is not None:
                    bar.update(2 * len(units))
        except KeyboardInterrupt:
            if not pairs:
                raise
            cut_short = True
    clear_folder(folder)
    write_assets(folder, STYLE)
    entries = [_write_pair(folder, *pair) for pair in pairs]
    write_sheet(folder, [rendering.images[row + i] for _, rendering, row in pairs for i in range(2)], columns=6)
    seconds = round(time.perf_counter() - started, 1)
    report = {
        "model": model.name, "natural images": natural.count, "seconds": seconds, "interrupted": cut_short,
        "planned": count, **_count_reached(entries), "recipe": get_shared(pairs[0][1].recipe), "gates": entries,
    }  # fmt: skip
    write_json(folder / REPORT, report)
    page = write_page(folder / PAGE, "demo.html", report=report)
    if cut_short:
        raise KeyboardInterrupt(f"{page} shows the {len(entries)} of {count} gates that are done")
    return page


def _render_pairs(
    model: TappedModel, natural: GateStatistics, site: str, units: Sequence[int], steps: int, size: int, seed: int
) -> list[_Pair]:
    """Both pictures of each unit of one block, in one batch."""
    started = time.perf_counter()
    goal = PerImage([signed for unit in units for signed in (Gate(site, unit), -Gate(site, unit))])
    noise = evaluate(model, goal, FourierImage(goal.n, size, seed=seed)().detach(), seed=seed)
    rendering = render(model, goal, steps=steps, size=size, seed=seed, progress=False).completed()
    distances = natural_distance(model, rendering.images, natural)
    seconds = round((time.perf_counter() - started) / len(units), 2)
    pairs = []
    for i, unit in enumerate(units):
        on_noise, excited, suppressed = (
            _describe_response(held_out, row, natural, site, unit, sign)
            for held_out, row, sign in (
                (noise, 2 * i, 1),
                (rendering.held_out, 2 * i, 1),
                (rendering.held_out, 2 * i + 1, -1),
            )
        )
        for row, end in ((2 * i, excited), (2 * i + 1, suppressed)):
            end["distance"] = distances[row]
        renders = {"excited": excited, "suppressed": suppressed}
        entry = {**describe_gate(model, natural, site, unit), "seconds": seconds, "noise": on_noise, "renders": renders}
        pairs.append((entry, rendering, 2 * i))
    return pairs


def _describe_response(
    held_out: HeldOut, row: int, natural: GateStatistics, site: str, unit: int, sign: int
) -> dict[str, Any]:
    """What the picture of a row does to a gate; its goal is the logit times ``sign``."""
    (values,), (logits,) = held_out.gates[row].values(), held_out.logits[row].values()
    percentile = natural.percentile(site, unit, logits.mean()[None])[0]
    unseen = {kind: sign * scores[row] for kind, scores in held_out.unseen.items()}
    return {
        "value": values.mean(), "logit": logits.mean(), "percentile": percentile, "values": values, "unseen": unseen,
    }  # fmt: skip


def _write_pair(folder: Path, entry: dict[str, Any], rendering: Rendering, row: int) -> dict[str, Any]:
    """Write the two tiles of a gate; returns its entry in the report."""
    for i, end in enumerate(entry["renders"].values()):
        end["file"] = write_tile(folder, rendering.specs[row + i], rendering, row + i)
    return to_json(entry)


def _count_reached(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many gates were opened and closed, and how many went beyond natural pictures both ways."""
    ends = [(e["renders"]["excited"], e["renders"]["suppressed"]) for e in entries]
    return {
        "opened and closed": sum(up["value"] >= OPEN and down["value"] <= SHUT for up, down in ends),
        "beyond natural pictures both ways": sum(
            up["percentile"] >= 99.9 and down["percentile"] <= 0.1 for up, down in ends
        ),
    }
