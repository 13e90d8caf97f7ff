"""Draws the results into ``docs/bench_*``; only these plots need matplotlib."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.workload import LAYERS
from benchmarks.suites.time_to_activation import COLD, PICTURES
from benchmarks.suites.tradeoff import PLAIN
from featureviz.rendering.png import make_contact_sheet

ORANGE, LIGHT_ORANGE, GREY = "#b4540a", "#e0a060", "#8a8780"
COLOURS = {"lucent": "#0b6a8f", "featureviz": ORANGE, "featureviz fast": LIGHT_ORANGE}
SHORTCUTS = {PLAIN: ORANGE, "fast()": LIGHT_ORANGE}  # the other settings are close to the plain curve


def draw_plots(results: Path, out: Path, pictures: Path = PICTURES) -> list[Path]:
    """Draw each result that has a plot, and the ``pictures`` that the last run saved; returns the files."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'featureviz[bench]'") from error
    files = []
    for name, draw in PLOTS.items():
        path = results / f"{name}.json"
        if path.is_file():
            figure = Figure(layout="constrained")
            draw(figure, json.loads(path.read_text()))
            files.append(out / f"bench_{name}.png")
            figure.savefig(files[-1], dpi=150)
    images = {path.stem: torch.load(path) for path in sorted(pictures.glob("*.pt"))}
    if images:
        figure = Figure(layout="constrained")
        draw_images(figure, images)
        files.append(out / "bench_pictures.jpg")
        figure.savefig(files[-1], dpi=130, pil_kwargs={"quality": 85})
    return files


def draw_images(figure: Any, images: dict[str, Tensor]) -> None:
    """The images of all tools after the same number of steps: a block a layer, a row a tool, a column a unit."""
    layers = [layer for layer in LAYERS if any(name.startswith(f"{layer} ") for name in images)]
    rows = [(layer, tool) for layer in layers for tool in COLOURS if f"{layer} {tool}" in images]
    columns = max(len(batch) for batch in images.values())
    figure.set_size_inches(1.1 * columns, 1.22 * len(rows))
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for panel, (layer, tool) in zip(panels, rows, strict=True):
        sheet = make_contact_sheet(images[f"{layer} {tool}"].float() / 255, columns)
        panel.imshow(sheet.movedim(0, -1).numpy())
        panel.set_title(f"{layer}, {tool}", fontsize=8, loc="left", pad=2)
        panel.axis("off")


def draw_peers(figure: Any, result: dict[str, Any]) -> None:
    """Bars on a logarithmic axis: milliseconds per image-step of each tool, one panel for each workload."""
    groups = result["groups"]
    figure.set_size_inches(9, 1.0 + 1.7 * ((len(groups) + 1) // 2))
    panels = figure.subplots((len(groups) + 1) // 2, min(2, len(groups)), squeeze=False).flat
    for (title, group), panel in zip(groups.items(), panels, strict=False):  # groups first: zip takes no extra panel
        rows = {name: row for name, row in group["rows"].items() if "median" in row}
        medians = [row["median"] for row in rows.values()]
        below = [row["median"] - row["quartiles"][0] for row in rows.values()]
        above = [row["quartiles"][1] - row["median"] for row in rows.values()]
        colours = [ORANGE if name.startswith("featureviz") else GREY for name in rows]
        panel.barh(list(rows), medians, xerr=[below, above], color=colours)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlim(left=1)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(group["unit"], fontsize=8)
        panel.tick_params(labelsize=8)
    for panel in list(panels):
        panel.set_visible(False)


def draw_time_to_activation(figure: Any, result: dict[str, Any]) -> None:
    """Curves: the held-out score over Lucent's last score, against seconds per image; medians over the units."""
    groups = {title: group for title, group in result["groups"].items() if title.endswith(f", {COLD}")}
    figure.set_size_inches(4.5 * len(groups), 3.6)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for panel, (title, group) in zip(panels, groups.items(), strict=True):
        facts, n = group["facts"], len(group["task"]["units"])
        goals = facts["lucent"]["score at the end"] if "lucent" in facts else None
        for name, colour in COLOURS.items():
            if name in facts and goals is not None:
                elapsed, scores = _sum_seconds(facts[name], n), facts[name]["scores by step"]
                seconds = [elapsed[int(step) // facts["every"] - 1] for step in scores]
                style = "o" if len(scores) == 1 else "-"  # Lucent has a single score, at its end
                panel.plot(seconds, _divide_scores(list(scores.values()), goals), style, color=colour, label=name)
        panel.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        panel.set_title(title.split(",")[0], fontsize=10)
        _set_seconds_axis(panel, "seconds per image, building included")
    panels[0].set_ylabel("held-out score over Lucent's after 256 steps", fontsize=8)
    panels[-1].legend(fontsize=8)


def draw_tradeoff(figure: Any, result: dict[str, Any]) -> None:
    """Curves: the held-out score over that of the longest plain render, against seconds; medians over the units."""
    layers: dict[str, list[dict[str, Any]]] = {}
    for title, group in result["groups"].items():
        layers.setdefault(title.split(", ")[0], []).append(group)
    figure.set_size_inches(4.0 * len(layers), 3.4)
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    for panel, (layer, groups) in zip(panels, layers.items(), strict=True):
        goals = groups[-1]["facts"]["held-out scores"][PLAIN]
        for name, colour in SHORTCUTS.items():
            seconds = [group["rows"][name]["median"] for group in groups]
            scores = [group["facts"]["held-out scores"][name] for group in groups]
            panel.plot(seconds, _divide_scores(scores, goals), "o-", color=colour, label=name, markersize=4)
        panel.set_title(layer, fontsize=10)
        _set_seconds_axis(panel, "seconds per image, held-out scores included")
    longest = list(result["groups"])[-1].split(", ")[1]
    panels[0].set_ylabel(f"held-out score over the plain one's, {longest}", fontsize=8)
    panels[-1].legend(fontsize=8)


def draw_scaling(figure: Any, result: dict[str, Any]) -> None:
    """Lines: milliseconds per image-step by number of images, by size, and over 2,000 steps."""
    figure.set_size_inches(11, 3.2)
    groups = result["groups"]
    for panel, (title, group) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        if "facts" in group:
            rounds = group["rows"]["featureviz"]["rounds"]
            panel.plot([group["facts"]["steps of each"] * (i + 1) for i in range(len(rounds))], rounds, color=ORANGE)
        else:
            rows = group["rows"]
            panel.plot([int(label) for label in rows], [row["median"] for row in rows.values()], "o-", color=ORANGE)
            panel.set_xscale("log", base=2)
            panel.set_xticks([int(label) for label in rows], list(rows))
        panel.set_ylim(bottom=0)
        panel.set_xlabel(title, fontsize=8)
        panel.set_ylabel(group["unit"], fontsize=8)
        panel.tick_params(labelsize=8)


def _set_seconds_axis(panel: Any, label: str) -> None:
    """A logarithmic axis with ticks at 0.5, 1, 2 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(label, fontsize=8)
    panel.tick_params(labelsize=8)


def _sum_seconds(facts: dict[str, Any], n: int) -> list[float]:
    """Seconds per image up to the end of each turn."""
    total, elapsed = facts["seconds of building"], []
    for seconds in facts["seconds of each turn"]:
        total += seconds
        elapsed.append(total / n)
    return elapsed


def _divide_scores(scores: list[list[float]], goals: list[float]) -> list[float]:
    """Each turn's median over the units of score over goal."""
    return [median(score / goal for score, goal in zip(turn, goals, strict=True)) for turn in scores]


PLOTS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "peers": draw_peers,
    "time_to_activation": draw_time_to_activation,
    "tradeoff": draw_tradeoff,
    "scaling": draw_scaling,
}
