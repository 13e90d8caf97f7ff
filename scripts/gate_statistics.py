"""How the gates of a network behave on natural pictures, and how the output changes when they are fixed.

    python scripts/gate_statistics.py embedded --images CROPS --out out
    python scripts/gate_statistics.py torchvision:mobilenet_v3_large?dilated=True --weights PATH --images CROPS

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. The script prints a line for each block, and
how the output (or --layer) changes when a block's gates are fixed at their natural mean, at one, or at another
picture's values. It writes gate_statistics.png, gate_statistics.json and the statistics themselves,
gate_statistics.pt, which the other scripts take as --statistics.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable, write_json
from featureviz.gallery.cards.entry import check_completed
from featureviz.lab import Ablation, GateStatistics, Pictures, SiteStatistics, ablate, colormap
from featureviz.lab.draw.canvas import COOL, FAINT, GREY, INK, PALE, WARM, Canvas, Color, measure_text
from featureviz.lab.draw.colors import DIVERGING
from featureviz.lab.draw.sheet import enlarge
from featureviz.lab.statistics.co_gating import order_by_correlation
from featureviz.lab.statistics.examples import spaced_indices
from featureviz.network.taps import OUTPUT
from featureviz.options import add_model_options, load_model, positive_int, run_command


def add_statistics_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--images``, ``--statistics`` and ``--out``."""
    parser.add_argument("--images", required=required, help="folder of natural pictures")
    parser.add_argument("--statistics", default=None, help="the file that gate_statistics.py saved for these pictures")
    parser.add_argument("--out", default="out", help="folder (default: out)")


def load_or_measure(model: fv.TappedModel, args: argparse.Namespace) -> GateStatistics:
    """The statistics of the file that was given, or new ones of the pictures."""
    if args.statistics is None:
        return GateStatistics.measure(model, args.images, progress=True).completed()
    natural = check_completed(GateStatistics.load(args.statistics))
    for name in fv.gates(model).channelwise:
        natural.check_fits(model, name)
    return natural


BINS, ROW, PANEL, TOP = 50, 92, 70, 108
NAMES, HISTOGRAM, RIBBON, ENDS, MATRIX, STATIC, CHANGE, RIGHT = 20, 168, 342, 532, 676, 786, 944, 1166  # left edges
TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100)  # of a relative change
WAYS = {"mean": ("natural mean", INK), "one": ("one", WARM), "shuffled": ("another's", COOL)}


def draw(
    model: fv.TappedModel, natural: GateStatistics, ablations: Sequence[Ablation], title: str, note: str
) -> Canvas:
    """A row for each block, in the order of the network."""
    sites = fv.gates(model).channelwise
    sheet = Canvas(RIGHT + 20, TOP + ROW * len(sites) + 30)
    sheet.text(NAMES, 14, title, INK, 19, bold=True)
    sheet.text(NAMES, 42, note, GREY)
    draw_heads(sheet)
    for i, (name, site) in enumerate(sites.items()):
        y, s = TOP + ROW * i, natural[name]
        sheet.text(NAMES, y + 16, shorten(name), INK, 13, bold=True)
        sheet.text(NAMES, y + 36, f"{site.channels} gates", GREY, 12)
        sheet.text(NAMES, y + 53, f"effective rank {s.effective_rank:.1f}", GREY, 12)
        with torch.no_grad():
            values = site.nonlinearity(s.logit_sample.to(model.device)).float().cpu()
        draw_histogram(sheet, values, y)
        draw_ribbon(sheet, s, y)
        draw_ends(sheet, s, y)
        matrix = colormap(order_by_correlation(s.correlation), -1, 1, DIVERGING)
        sheet.image(enlarge(matrix, 4 * PANEL), MATRIX, y, PANEL)
    draw_depth(sheet, [natural[name].static_share for name in sites], ablations, list(sites))
    return sheet


def draw_heads(sheet: Canvas) -> None:
    """The titles of the columns, and the legend of the ablations."""
    y = TOP - 34
    for x, text, more in (
        (HISTOGRAM, "values of all gates", "0 to 1, roots of counts"),
        (RIBBON, "each gate, sorted", "mean ± sd of its value"), (ENDS, "shut, open", "within 0.01 of the end"),
        (MATRIX, "co-gating", "-1 blue, 1 red"),
        (STATIC, "static share", "of the variance"), (CHANGE, "change when gates are fixed", ""),
    ):  # fmt: skip
        sheet.text(x, y, text, INK, 12, "lm", bold=True)
        sheet.text(x, y + 16, more, GREY, 11, "lm")
    x = float(CHANGE)
    for text, color in WAYS.values():
        sheet.dot(x + 4, y + 16, 3.5, color)
        sheet.text(x + 12, y + 16, text, GREY, 11, "lm")
        x += 12 + measure_text(text, 11) + 10


def draw_histogram(sheet: Canvas, values: Tensor, y: float) -> None:
    """Bars of the roots of counts; the first and the last bar, where a gate is shut or open, are coloured."""
    bars = torch.histc(values, BINS, 0, 1).sqrt()
    bars = (PANEL * bars / bars.amax().clamp(min=1)).tolist()
    step = (RIBBON - HISTOGRAM - 30) / BINS
    for i, bar in enumerate(bars):
        x, color = HISTOGRAM + i * step, COOL if i == 0 else WARM if i == BINS - 1 else (150, 156, 166)
        sheet.box(x, y + PANEL - bar, x + step - 0.5, y + PANEL, color)
    sheet.line([(HISTOGRAM, y + PANEL), (HISTOGRAM + BINS * step, y + PANEL)], FAINT)


def draw_ribbon(sheet: Canvas, s: SiteStatistics, y: float) -> None:
    """Mean and sd of each gate's value, sorted by the mean."""
    mean, order = s.value_mean.sort()
    sd = s.value_sd[order]
    xs = torch.linspace(RIBBON, ENDS - 30, len(mean)).tolist()
    for level in (0, 0.5, 1):
        sheet.line([(RIBBON, y + PANEL * (1 - level)), (ENDS - 30, y + PANEL * (1 - level))], PALE)

    def points(v: Tensor) -> list[tuple[float, float]]:
        return list(zip(xs, (y + PANEL * (1 - v.clamp(0, 1))).tolist(), strict=True))

    sheet.area([*points(mean + sd), *reversed(points(mean - sd))], (214, 218, 224))
    sheet.line(points(mean), INK, 1.5)


def draw_ends(sheet: Canvas, s: SiteStatistics, y: float) -> None:
    """How often gates are shut, and how often open, as shares of one bar."""
    shut, opened, width = float(s.closed.mean()), float(s.opened.mean()), MATRIX - ENDS - 36
    sheet.box(ENDS, y + 33, ENDS + width, y + 51, PALE)
    sheet.box(ENDS, y + 33, ENDS + width * shut, y + 51, COOL)
    sheet.box(ENDS + width * (1 - opened), y + 33, ENDS + width, y + 51, WARM)
    sheet.text(ENDS, y + 19, f"{100 * shut:.0f} %", COOL, 12, "lm", bold=True)
    sheet.text(ENDS + width, y + 19, f"{100 * opened:.0f} %", WARM, 12, "rm", bold=True)


def draw_depth(sheet: Canvas, static: Sequence[float], ablations: Sequence[Ablation], names: Sequence[str]) -> None:
    """Two charts over the rows: static share, and the change by ablation on a logarithmic scale."""
    width, bottom = CHANGE - STATIC - 46, TOP + ROW * len(names) - ROW + PANEL
    for level in (0.0, 0.5, 1.0):
        draw_guide(sheet, STATIC + width * level, bottom, f"{100 * level:g} %")
    points = [(STATIC + width * share, TOP + ROW * i + PANEL / 2) for i, share in enumerate(static)]
    draw_trail(sheet, points, INK)
    changes = [a.change for a in ablations if a.change > 0] or [1.0]
    low = max((t for t in TICKS if t <= min(changes)), default=TICKS[0])
    high = min((t for t in TICKS if t >= max(changes) and t > low), default=TICKS[-1])

    def place(change: float) -> float:
        return CHANGE + (RIGHT - CHANGE) * math.log(max(change, low) / low) / math.log(high / low)

    ticks = [t for t in TICKS if low <= t <= high]
    for tick in ticks if len(ticks) <= 5 else (t for t in ticks if math.log10(t).is_integer()):
        draw_guide(sheet, place(tick), bottom, f"{100 * tick:g} %")
    for way, (_, color) in WAYS.items():
        xs = {a.site: place(a.change) for a in ablations if a.way == way}
        draw_trail(sheet, [(xs[n], TOP + ROW * i + PANEL / 2) for i, n in enumerate(names) if n in xs], color)


def draw_guide(sheet: Canvas, x: float, bottom: float, text: str) -> None:
    sheet.line([(x, TOP), (x, bottom)], PALE)
    sheet.text(x, bottom + 8, text, GREY, 11, "ma")


def draw_trail(sheet: Canvas, points: Sequence[tuple[float, float]], color: Color) -> None:
    if len(points) > 1:
        sheet.line(points, color, 1.0)
    for x, y in points:
        sheet.dot(x, y, 4, color)


def shorten(name: str) -> str:
    """A name that fits into its column: of a longer one the end, which differs between blocks.

    >>> shorten("features.9.block.2"), shorten("stages.3.blocks.0.conv.layers.11.se")
    ('features.9.block.2', '...cks.0.conv.layers.11.se')
    """
    short = name
    while measure_text(short, 13) > HISTOGRAM - NAMES - 8:
        short = f"...{short.removeprefix('...')[1:]}"
    return short


def write_statistics(args: argparse.Namespace) -> None:
    """Measure, print and draw."""
    check_writable(Path(args.save or args.out).parent)
    out, model = check_writable(args.out), load_model(args)
    pictures = Pictures(args.images, model.input_size((224, 224)))
    natural = load_or_measure(model, args)
    if args.statistics is None or args.save is not None:
        natural.save(args.save or out / "gate_statistics.pt")
    some = [pictures.paths[i] for i in spaced_indices(len(pictures), args.ablated)]
    ablations = ablate(model, Pictures(some, pictures.size), natural, layer=args.layer, progress=True)
    report = {"model": model.name, "pictures": natural.count, "layer": args.layer, "blocks": natural.rows()}
    write_json(out / "gate_statistics.json", {**report, "ablations": [asdict(a) for a in ablations]})
    what = "the output" if args.layer == OUTPUT else args.layer
    note = f"{natural.count:,} natural pictures; gates fixed on {ablations[0].count} of them, |a - b| / |a| of {what}"
    sheet = draw(model, natural, ablations, f"The gates of {model.name}", note).save(out / "gate_statistics.png")
    print(natural.table(), *ablations, sheet, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    add_statistics_options(parser)
    parser.add_argument("--save", default=None, help="file for the statistics (default: in --out)")
    parser.add_argument("--layer", default=OUTPUT, help="the layer to compare (default: the output)")
    parser.add_argument("--ablated", type=positive_int, default=128, help="pictures to compare it on (default: 128)")
    return run_command("gate_statistics", lambda: write_statistics(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
