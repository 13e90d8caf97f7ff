"""Gate cards: a page for each gate, an index of the pages, and a report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from featureviz.errors import InvalidInput, ModelError
from featureviz.files import check_writable, write_json
from featureviz.gallery.cards.card_report import write_tiles
from featureviz.gallery.folder import PAGE, REPORT, STYLE, clear_folder, prepare_folder
from featureviz.gallery.site.pages import write_assets, write_page
from featureviz.gallery.site.words import describe_versions
from featureviz.lab.effects.ablation import GateAblator
from featureviz.lab.gates.card import GateCard, check_gates, check_statistics, make_cards
from featureviz.lab.statistics.examples import sample_evenly
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.pictures import Pictures, Source
from featureviz.network.model import TappedModel, tapped
from featureviz.network.taps import OUTPUT
from featureviz.rendering.presets import STEPS

ABLATED = 128  # pictures on which single gates are clamped

Statistics = GateStatistics | str | os.PathLike[str] | None


def gate_cards(
    model: TappedModel,
    pictures: Source,
    out: str | os.PathLike[str] = "gates",
    *,
    sites: Sequence[str] = (),
    units: Sequence[int] = (),
    count: int = 4,
    statistics: Statistics = None,
    layer: str = OUTPUT,
    steps: int = STEPS,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write a card for each gate, ``out/index.html`` with links to them, and ``out/report.json``; returns the index.

    Four gates are written at a time, the first ones in place of an earlier gallery in the folder. After Ctrl-C, which
    is raised, or an error the index shows those that are finished.

    Args:
        model: a network with channel gates.
        pictures: natural pictures: a folder, ``Pictures``, or a tensor ``[N,3,H,W]`` in [0,1].
        out: the folder to write to.
        sites: the blocks; by default all of them.
        units: the gates of each block; by default those that vary most between the pictures.
        count: without ``units``: how many gates, spread over the blocks, with one more for the deepest blocks.
        statistics: those of these pictures, or a file of them, which is read if it exists and otherwise written.
        layer: the layer that is compared when a gate is clamped; without a trained head give the deepest trained one.
        steps: steps of ascent of every render.
        size: of the renders in pixels.
        seed: of the noise and the views.
        progress: whether to show bars.

    Raises:
        ModelError: the network has no channel gates.
        UnknownName: there is no such block.
        InvalidInput: there is no such gate; there are no pictures; the statistics are compact, or of another network
            or other pictures; the folder cannot be written to.
    """
    folder, gates = prepare_folder(out), tapped(model).gates
    if not gates.channelwise:
        raise ModelError(f"{model.name} has no channel gates, so there is nothing to make cards of")
    blocks = [gates[site].name for site in sites] or list(gates.channelwise)
    input_size = model.input_size((224, 224))
    source = Pictures(pictures, input_size) if isinstance(pictures, str | os.PathLike) else pictures
    for site in blocks:
        check_gates(model, site, units)
    natural = load_or_measure(model, source, statistics, progress=progress)
    chosen = {site: list(units) for site in blocks} if units else choose_gates(blocks, natural, count)
    for site in chosen:
        check_statistics(model, site, natural)
    ablator = GateAblator(model, sample_evenly(source, input_size, ABLATED), layer)
    options: dict[str, Any] = {"steps": steps, "size": size, "seed": seed}
    run = {
        "model": model.name, "natural images": natural.count, "planned": sum(map(len, chosen.values())),
        "skipped": [{"file": Path(s.path).name, "why": s.reason} for s in natural.skipped], "layer": layer, **options,
        "versions": {"featureviz": version("featureviz"), "torch": torch.__version__},
    }  # fmt: skip
    cards = (
        card for site, own in chosen.items()
        for card in make_cards(model, site, own, natural, source, ablator, progress=progress, **options)
    )  # fmt: skip
    return _write_cards(folder, model, cards, run)


def _write_cards(folder: Path, model: TappedModel, cards: Iterable[GateCard], run: dict[str, Any]) -> Path:
    """Write each card as soon as it is there, and the report and the index anew."""
    how = "{steps} steps, {size} px, seed {seed}. All figures are in report.json.".format(**run)
    footer, entries, page = f"{describe_versions(run['versions'])}; {how}", list[dict[str, Any]](), folder / PAGE
    try:
        for card in cards:
            if not entries:
                clear_folder(folder)
                write_assets(folder, STYLE)
            entries.append(write_tiles(folder, model, card))
            write_page(folder / entries[-1]["page"], "gate_card.html", e=entries[-1], footer=footer)
            write_json(folder / REPORT, {**run, "gates": entries})
            write_page(page, "gate_index.html", run=run, entries=entries, footer=footer)
    except KeyboardInterrupt as error:
        there = f"{page} shows the {len(entries)} of {run['planned']} cards that are done" if entries else ""
        raise KeyboardInterrupt(there) from error
    return page


def choose_gates(blocks: Sequence[str], natural: GateStatistics, count: int) -> dict[str, list[int]]:
    """``count`` gates by block: as many of each block, one more of the deepest; those with the largest sd of value."""
    ranked = {site: natural[site].value_sd.argsort(descending=True).tolist() for site in blocks}
    total = sum(map(len, ranked.values()))
    if not 1 <= count <= total:
        raise InvalidInput(f"count={count} was given; expected 1 to {total} gates, which there are")
    places = [(rank, -depth) for depth, site in enumerate(blocks) for rank in range(len(ranked[site]))]
    chosen = sorted(places)[:count]
    counts = {site: sum(-depth == place for _, place in chosen) for depth, site in enumerate(blocks)}
    return {site: ranked[site][:n] for site, n in counts.items() if n}


def load_or_measure(
    model: TappedModel, source: Source, statistics: Statistics = None, *, progress: bool = False
) -> GateStatistics:
    """The statistics, or those in their file if it exists; otherwise new ones, which are written to that file.

    Raises:
        InvalidInput: they are those of an interrupted measurement; or the file holds none, or cannot be written.
    """
    if isinstance(statistics, GateStatistics):
        return check_completed(statistics)
    if statistics is not None and os.path.lexists(statistics):
        return check_completed(GateStatistics.load(statistics))
    if statistics is not None:
        check_writable(Path(statistics).parent)  # before the work
    natural = GateStatistics.measure(model, source, progress=progress).completed()
    if statistics is not None:
        natural.save(statistics)
    return natural


def check_completed(natural: GateStatistics) -> GateStatistics:
    """Statistics that may be used for all pictures; those of an interrupted measurement raise ``InvalidInput``."""
    if natural.interrupted:
        raise InvalidInput(
            f"the statistics are of a measurement that was interrupted after {natural.count} images; measure again"
        )
    return natural
