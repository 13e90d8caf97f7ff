"""Gate cards: a page a gate, an index of them, and a report, written as the gates are done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from featureviz.errors import InvalidInput, ModelError
from featureviz.gallery.cards.card_page import CORNERS, standing, write_card
from featureviz.gallery.cards.card_report import entry
from featureviz.gallery.page import Card, Picture, Range, write_page
from featureviz.gallery.tiles import writable, write_report
from featureviz.lab.effects.single_gate import Holding
from featureviz.lab.gates.card import cards, check_gates, check_statistics
from featureviz.lab.statistics.examples import spread_over
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.pictures import Pictures, Source
from featureviz.network.model import TappedModel, tapped
from featureviz.network.taps import OUTPUT

HELD = 128  # pictures on which single gates are held


def gate_cards(
    model: TappedModel,
    pictures: Source,
    out: str | os.PathLike[str] = "gates",
    *,
    sites: Sequence[str] = (),
    units: Sequence[int] = (),
    count: int = 4,
    natural: GateStatistics | None = None,
    statistics: str | os.PathLike[str] | None = None,
    layer: str = OUTPUT,
    steps: int = 128,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write a card a gate, ``out/index.html`` that links them, and ``out/report.json``; returns the index.

    Files are written four gates at a time: after Ctrl-C or an error the index shows those that are done.

    Args:
        model: a network with channel gates.
        pictures: natural images: a folder, ``Pictures`` or a tensor ``[N,3,H,W]`` in [0,1].
        out: the folder to write.
        sites: the blocks; all of them if left out.
        units: the gates of each block; if left out, those that vary most between the pictures.
        count: how many then, spread over the blocks, the deepest first.
        natural: the statistics of these pictures, if they are known.
        statistics: a file of them, read if it is there, else measured and written.
        layer: what is compared when a gate is held; give the deepest trained one of a network without its head.
        steps: of ascent, of every render.
        size: of the renders in pixels.
        seed: of the noise and the views.
        progress: show bars.

    Raises:
        ModelError: no channel gates.
        UnknownName: no such block.
        InvalidInput: no such gate; no pictures; statistics of another network or other pictures, or compact ones; a
            place that cannot be written.
    """
    folder, gates = writable(out), tapped(model).gates
    if not gates.channelwise:
        raise ModelError(f"{model.name} has no channel gates, so there is nothing to make cards of")
    blocks = [gates[site].name for site in sites] or list(gates.channelwise)
    seen = model.input_size((224, 224))
    source = Pictures(pictures, seen) if isinstance(pictures, str | os.PathLike) else pictures
    for site in blocks:
        check_gates(model, site, units)
    known = natural or _measured(model, source, statistics, progress)
    chosen = {site: list(units) for site in blocks} if units else choose(blocks, known, count)
    for site in chosen:
        check_statistics(model, site, known)
    holding = Holding(model, spread_over(source, seen, HELD), layer)
    run = {
        "model": model.name, "natural images": known.count,
        "skipped": [{"file": Path(s.path).name, "why": s.reason} for s in known.skipped],
        "planned": sum(map(len, chosen.values())), "layer": layer, "steps": steps, "size": size, "seed": seed,
        "versions": {"featureviz": version("featureviz"), "torch": torch.__version__},
    }  # fmt: skip
    entries: list[dict[str, Any]] = []
    for site, of in chosen.items():
        for card in cards(
            model, site, of, known, source, holding, steps=steps, size=size, seed=seed, progress=progress
        ):
            entries.append(entry(folder, model, card))
            write_card(folder, entries[-1], footer(run))
            write_report(folder, {**run, "gates": entries})
            write_index(folder, run, entries)
    return folder / "index.html"


def choose(blocks: Sequence[str], natural: GateStatistics, count: int) -> dict[str, list[int]]:
    """Gates by block, spread over the blocks, the deepest first in line for a second: the most varying in each."""
    if count < 1:
        raise InvalidInput(f"count={count} was given; expected at least 1 gate")
    share = dict.fromkeys(blocks, 0)
    for i in range(count):
        share[blocks[-1 - i % len(blocks)]] += 1
    ranked = {site: natural[site].value_sd.argsort(descending=True).tolist() for site in blocks}
    return {site: ranked[site][:n] for site, n in share.items() if n}


def _measured(
    model: TappedModel, source: Source, file: str | os.PathLike[str] | None, progress: bool
) -> GateStatistics:
    """Statistics from their file, or measured, and then kept in it."""
    if file is not None and os.path.exists(file):
        return GateStatistics.load(file)
    if file is not None:
        writable(Path(file).parent)
    natural = GateStatistics.measure(model, source, progress=progress)
    if natural.interrupted:
        raise KeyboardInterrupt
    if file is not None:
        natural.save(file)
    return natural


def write_index(folder: Path, run: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Path:
    """``index.html``: the gates that are done, each with its two pictures, linked to its page."""
    done, planned = len(entries), run["planned"]
    here = "is 1 gate" if done == 1 else f"are {done} gates"
    intro = [
        "A squeeze-and-excitation gate looks at a whole picture and decides how much of one channel may pass: 1 lets it"
        f" through, 0 shuts it off. Here {here} of <strong>{escape(run['model'])}</strong>: what"
        f" excites and what suppresses each, held against {run['natural images']:,} natural pictures. Each has a card"
        " of its own.",
    ]
    if done < planned:
        intro.append(f"<strong>{done} of {planned} gates are done;</strong> the others are missing.")
    if run["skipped"]:
        names = ", ".join(escape(s["file"]) for s in run["skipped"][:3])
        more = ", ..." if len(run["skipped"]) > 3 else ""
        one = len(run["skipped"]) == 1
        files, left = ("file", "was left") if one else ("files", "were left")
        intro.append(f"{len(run['skipped'])} {files} could not be read and {left} out: {names}{more}.")
    return write_page(folder, "Gate cards", intro, [_thumbnail(e) for e in entries], footer(run))


def _thumbnail(e: Mapping[str, Any]) -> Card:
    n, renders = e["natural"], e["renders"]
    ends = [("excited", "open"), ("suppressed", "shut")]
    pictures = [
        Picture(renders[k]["file"], f"{k} {renders[k]['value']:.2f}", standing(renders[k]["percentile"]), tone)
        for k, tone in ends
    ]
    marks = [("noise", e["noise"]["value"]), *((tone, renders[k]["value"]) for k, tone in reversed(ends))]
    reached = sum(all(renders[k]["reached"].values()) for k in CORNERS)
    return Card(
        title=e["spec"],
        subtitle=f"natural pictures {n['value mean']:.2f} ± {n['value sd']:.2f}",
        pictures=pictures,
        range=Range(tuple(n["quantile values"].values()), marks),
        remark=f"{reached} of 4 corners of channel and gate reached.",
        href=e["page"],
    )


def footer(run: Mapping[str, Any]) -> str:
    """What made the pages."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return f"{versions}; {run['steps']} steps, {run['size']} px, seed {run['seed']}. Every figure is in report.json."
