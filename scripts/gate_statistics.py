"""How the gates of a network behave on natural pictures, and what the network makes of it when they are held.

    python scripts/gate_statistics.py embedded --images CROPS --out out
    python scripts/gate_statistics.py torchvision:mobilenet_v3_large?dilated=True --weights PATH --images CROPS

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. Prints a line a block, and what becomes of
the output (or of --layer) when a block's gates are held at their natural mean, at one, or at another picture's. Writes
gate_statistics.png, gate_statistics.json and the statistics themselves, gate_statistics.pt, which the other scripts
take as --statistics.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from canvas import COOL, FAINT, GREY, INK, PALE, WARM, Canvas, length
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable, write_bytes
from featureviz.lab import Ablation, GateStatistics, Pictures, SiteStatistics, ablate, heat
from featureviz.lab.draw.colormap import DIVERGING, enlarged
from featureviz.network.taps import OUTPUT
from featureviz.options import add_model_options, load_model, positive_int


def add_natural(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--images", required=required, help="folder of natural pictures")
    parser.add_argument("--statistics", default=None, help="what gate_statistics.py saved of them, to save the time")
    parser.add_argument("--out", default="out", help="folder (default: out)")


def measured(model: fv.TappedModel, args: argparse.Namespace) -> GateStatistics:
    """The statistics that were given, or new ones of the pictures."""
    if args.statistics is None:
        return GateStatistics.measure(model, args.images, progress=True)
    natural = GateStatistics.load(args.statistics)
    for name, site in fv.gates(model).channelwise.items():
        count = natural[name].logit_mean.numel()
        if count != site.channels:
            raise fv.FeaturevizError(
                f"{args.statistics} has {count} gates in {name}, the network {site.channels}: it is of another"
                " network; measure again, without --statistics"
            )
    return natural


def write_json(path: Path, report: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(report, indent=1) + "\n").encode())


BINS, ROW, PANEL, TOP = 50, 92, 70, 108
NAMES, HISTOGRAM, RIBBON, ENDS, MATRIX, STATIC, HELD, RIGHT = 20, 168, 342, 532, 676, 786, 944, 1166  # left edges
TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100)  # of a relative change
WAYS = {"mean": ("natural mean", INK), "one": ("one", WARM), "shuffled": ("another's", COOL)}


def picture(model: fv.TappedModel, natural: GateStatistics, held: Sequence[Ablation], title: str, note: str) -> Canvas:
    """A row a block, from the first at the top to the last."""
    sites = fv.gates(model).channelwise
    sheet = Canvas(RIGHT + 20, TOP + ROW * len(sites) + 30)
    sheet.text(NAMES, 14, title, INK, 19, bold=True)
    sheet.text(NAMES, 42, note, GREY)
    heads(sheet)
    for i, (name, site) in enumerate(sites.items()):
        y, s = TOP + ROW * i, natural[name]
        sheet.text(NAMES, y + 16, shortened(name), INK, 13, bold=True)
        sheet.text(NAMES, y + 36, f"{site.channels} gates", GREY, 12)
        sheet.text(NAMES, y + 53, f"effective rank {s.effective_rank:.1f}", GREY, 12)
        with torch.no_grad():
            values = site.nonlinearity(s.logit_sample.to(model.device)).float().cpu()
        histogram(sheet, values, y)
        ribbon(sheet, s, y)
        ends(sheet, s, y)
        sheet.image(enlarged(heat(ordered(s.correlation), -1, 1, DIVERGING), 4 * PANEL), MATRIX, y, PANEL)
    depth(sheet, [natural[name].static_share for name in sites], held, list(sites))
    return sheet


def heads(sheet: Canvas) -> None:
    y = TOP - 34
    for x, text, more in (
        (HISTOGRAM, "values of all gates", "0 to 1, roots of counts"),
        (RIBBON, "each gate, sorted", "mean ± sd of its value"), (ENDS, "shut, open", "within 0.01 of the end"),
        (MATRIX, "co-gating", "-1 blue, 1 red"),
        (STATIC, "static share", "of the variance"), (HELD, "change when gates are held", ""),
    ):  # fmt: skip
        sheet.text(x, y, text, INK, 12, "lm", bold=True)
        sheet.text(x, y + 16, more, GREY, 11, "lm")
    x = float(HELD)
    for text, colour in WAYS.values():
        sheet.dot(x + 4, y + 16, 3.5, colour)
        sheet.text(x + 12, y + 16, text, GREY, 11, "lm")
        x += 12 + length(text, 11) + 10


def histogram(sheet: Canvas, values: Tensor, y: float) -> None:
    """Bars of the roots of counts; those at the ends, where a gate is shut or open, in colour."""
    bars = torch.histc(values, BINS, 0, 1).sqrt()
    bars = (PANEL * bars / bars.amax().clamp(min=1)).tolist()
    step = (RIBBON - HISTOGRAM - 30) / BINS
    for i, bar in enumerate(bars):
        x, colour = HISTOGRAM + i * step, COOL if i == 0 else WARM if i == BINS - 1 else (150, 156, 166)
        sheet.box(x, y + PANEL - bar, x + step - 0.5, y + PANEL, colour)
    sheet.line([(HISTOGRAM, y + PANEL), (HISTOGRAM + BINS * step, y + PANEL)], FAINT)


def ribbon(sheet: Canvas, s: SiteStatistics, y: float) -> None:
    """Mean and sd of each gate's value, from the gate that is most shut to the one most open."""
    mean, order = s.value_mean.sort()
    sd = s.value_sd[order]
    xs = torch.linspace(RIBBON, ENDS - 30, len(mean)).tolist()
    for level in (0, 0.5, 1):
        sheet.line([(RIBBON, y + PANEL * (1 - level)), (ENDS - 30, y + PANEL * (1 - level))], PALE)

    def heights(v: Tensor) -> list[tuple[float, float]]:
        return list(zip(xs, (y + PANEL * (1 - v.clamp(0, 1))).tolist(), strict=True))

    sheet.area([*heights(mean + sd), *reversed(heights(mean - sd))], (214, 218, 224))
    sheet.line(heights(mean), INK, 1.5)


def ends(sheet: Canvas, s: SiteStatistics, y: float) -> None:
    """How often gates are shut, and how often open, as parts of one bar."""
    shut, opened, width = float(s.closed.mean()), float(s.opened.mean()), MATRIX - ENDS - 36
    sheet.box(ENDS, y + 33, ENDS + width, y + 51, PALE)
    sheet.box(ENDS, y + 33, ENDS + width * shut, y + 51, COOL)
    sheet.box(ENDS + width * (1 - opened), y + 33, ENDS + width, y + 51, WARM)
    sheet.text(ENDS, y + 19, f"{100 * shut:.0f} %", COOL, 12, "lm", bold=True)
    sheet.text(ENDS + width, y + 19, f"{100 * opened:.0f} %", WARM, 12, "rm", bold=True)


def ordered(correlation: Tensor) -> Tensor:
    """Gates by the angle of their first two principal components, cut at the widest gap (Friendly 2002)."""
    _, vectors = torch.linalg.eigh(correlation.double())
    angle, order = torch.atan2(vectors[:, -2], vectors[:, -1]).sort(stable=True)
    gaps = torch.cat([angle[1:], angle[:1] + 2 * math.pi]) - angle
    order = order.roll(-int(gaps.argmax()) - 1)
    return correlation[order][:, order].float()


def depth(sheet: Canvas, static: Sequence[float], held: Sequence[Ablation], names: Sequence[str]) -> None:
    """Two charts down the rows: static share, and what holding the gates changes, on a logarithmic scale."""
    width, bottom = HELD - STATIC - 46, TOP + ROW * len(names) - ROW + PANEL
    for level in (0.0, 0.5, 1.0):
        guide(sheet, STATIC + width * level, bottom, f"{100 * level:g} %")
    points = [(STATIC + width * share, TOP + ROW * i + PANEL / 2) for i, share in enumerate(static)]
    trail(sheet, points, INK)
    changes = [a.change for a in held if a.change > 0] or [1.0]
    low = max((t for t in TICKS if t <= min(changes)), default=TICKS[0])
    high = min((t for t in TICKS if t >= max(changes) and t > low), default=TICKS[-1])

    def at(change: float) -> float:
        return HELD + (RIGHT - HELD) * math.log(max(change, low) / low) / math.log(high / low)

    within = [t for t in TICKS if low <= t <= high]
    for tick in within if len(within) <= 5 else (t for t in within if math.log10(t).is_integer()):
        guide(sheet, at(tick), bottom, f"{100 * tick:g} %")
    for way, (_, colour) in WAYS.items():
        of = {a.site: at(a.change) for a in held if a.way == way}
        trail(sheet, [(of[n], TOP + ROW * i + PANEL / 2) for i, n in enumerate(names) if n in of], colour)


def guide(sheet: Canvas, x: float, bottom: float, text: str) -> None:
    sheet.line([(x, TOP), (x, bottom)], PALE)
    sheet.text(x, bottom + 8, text, GREY, 11, "ma")


def trail(sheet: Canvas, points: Sequence[tuple[float, float]], colour: tuple[int, int, int]) -> None:
    if len(points) > 1:
        sheet.line(points, colour, 1.0)
    for x, y in points:
        sheet.dot(x, y, 4, colour)


def shortened(name: str) -> str:
    """A name that fits; of a longer one the end, which tells blocks apart.

    >>> shortened("features.9.block.2"), shortened("stages.3.blocks.0.conv.layers.11.se")
    ('features.9.block.2', '...cks.0.conv.layers.11.se')
    """
    short = name
    while length(short, 13) > HISTOGRAM - NAMES - 8:
        short = f"...{short.removeprefix('...')[1:]}"
    return short


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    add_natural(parser)
    parser.add_argument("--save", default=None, help="where to keep the statistics (default: in --out)")
    parser.add_argument("--layer", default=OUTPUT, help="what holding gates is judged by (default: the output)")
    parser.add_argument("--ablated", type=positive_int, default=128, help="pictures to hold gates on (default: 128)")
    args = parser.parse_args()
    try:
        out, model = check_writable(args.out), load_model(args)
        pictures = Pictures(args.images, model.input_size((224, 224)))
        natural = measured(model, args)
        print(natural.table())
        some = [pictures.paths[i * len(pictures) // args.ablated] for i in range(min(args.ablated, len(pictures)))]
        held = ablate(model, Pictures(some, pictures.size), natural, layer=args.layer, progress=True)
        print("\n".join(str(a) for a in held))
        if args.statistics is None or args.save is not None:
            natural.save(args.save or out / "gate_statistics.pt")
        report = {"model": model.name, "pictures": natural.count, "layer": args.layer, "blocks": natural.rows()}
        report["held"] = [asdict(a) for a in held]
        write_json(out / "gate_statistics.json", report)
        what = "the output" if args.layer == OUTPUT else args.layer
        note = f"{natural.count:,} natural pictures; held on {held[0].count} of them, |a - b| / |a| of {what}"
        print(picture(model, natural, held, f"The gates of {model.name}", note).save(out / "gate_statistics.png"))
    except fv.FeaturevizError as error:
        print(f"gate_statistics: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
