"""What a channel looks for if the gates of a block are always open, always shut, constant, or pass no gradient.

    python scripts/held_open.py embedded features.9:17 features.9.block.2 --images CROPS --out out
    python scripts/held_open.py torchvision:efficientnet_b0 features.6.2:3 features.6.2.block.2 --out out

One objective of any spec is rendered from the same noise: with the network as it is; with the gates of a block clamped
to 1; clamped to 0; at the mean of natural pictures, if these are given; and with gates that pass no gradient, so that
the ascent works through the content only. Each render is judged on held-out views, under its own intervention and on
the network as it is. The script writes held_open.json and held_open.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gate_statistics import add_statistics_options, load_or_measure

import featureviz as fv
from featureviz.files import check_writable, write_json
from featureviz.lab.draw.canvas import COOL, GREY, INK, PALE, WARM, Canvas
from featureviz.lab.effects.intervened_renders import IntervenedRender, gate_interventions, render_under
from featureviz.options import add_model_options, load_model, positive_int, protect_specs, run_command

SIDE, GAP, EDGE, TOP, FOOT = 208, 18, 20, 104, 92  # pixels


def format_table(renders: Sequence[IntervenedRender]) -> str:
    """A line for each render."""
    lines = [f"{'':26} {'own score':>12} {'plain network':>14}"]
    lines += [f"{r.way:26} {r.own:12.3f} {r.plain:14.3f}{'  no gradient' * r.constant}" for r in renders]
    return "\n".join(lines)


def draw(title: str, note: str, renders: Sequence[IntervenedRender]) -> Canvas:
    """A row of renders; below each its two scores as bars on one scale."""
    sheet = Canvas(2 * EDGE + len(renders) * (SIDE + GAP) - GAP, TOP + SIDE + FOOT)
    sheet.text(EDGE, 14, title, INK, 19, bold=True)
    sheet.text(EDGE, 42, note, GREY)
    scores = [0.0, *(score for r in renders for score in (r.own, r.plain))]
    low, high = min(scores), max(scores)
    width = SIDE - 56

    def place(score: float) -> float:
        return width * (score - low) / max(high - low, 1e-12)

    for i, r in enumerate(renders):
        x, y = EDGE + i * (SIDE + GAP), TOP + SIDE + 16
        sheet.text(x, TOP - 12, r.way, INK, 13, "lm", bold=True)
        sheet.image(r.image, x, TOP, SIDE)
        if r.constant:
            sheet.text(x + SIDE, TOP - 12, "no gradient", GREY, 12, "rm")
        for score, color, dy in ((r.own, WARM, 0), (r.plain, COOL, 22)):
            start, end = sorted((place(0.0), place(score)))
            sheet.box(x, y + dy, x + width, y + dy + 12, PALE)
            sheet.box(x + start, y + dy, x + end, y + dy + 12, color)
            sheet.text(x + SIDE, y + dy + 6, f"{score:.2f}", color, 13, "rm", bold=True)
    legend = ((EDGE, WARM, "held-out score under its intervention"), (EDGE + 320, COOL, "on the network as it is"))
    for x, color, text in legend:
        sheet.box(x, sheet.height - 26, x + 12, sheet.height - 14, color)
        sheet.text(x + 20, sheet.height - 20, text, GREY, 12, "lm")
    return sheet


def write_renders(args: argparse.Namespace) -> None:
    """Render, print and draw."""
    out, model = check_writable(args.out), load_model(args)
    goal, site = fv.parse(args.goal), fv.gates(model)[args.site].name
    if goal.n != 1:
        raise fv.FeaturevizError(f"{args.goal} was given, which is for {goal.n} images; expected one")
    natural = load_or_measure(model, args) if args.images or args.statistics else None
    interventions = gate_interventions(model, site, natural)
    renders = render_under(model, goal, interventions, steps=args.steps, size=args.size)
    facts = {"model": model.name, "objective": goal.spec, "block": site, "steps": args.steps, "size": args.size}
    rows = [{"way": r.way, "own": r.own, "plain": r.plain, "constant": r.constant} for r in renders]
    write_json(out / "held_open.json", {**facts, "renders": rows})
    title = f"What {goal.spec} looks for, and the gates of {site}"
    note = f"{model.name}, {args.steps} steps from the same noise, judged on 16 held-out views"
    sheet = draw(title, note, renders).save(out / "held_open.png")
    print(format_table(renders), sheet, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("goal", help="an objective for one image, such as features.9:17 or logit:207")
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_statistics_options(parser, required=False)
    parser.add_argument("--steps", type=positive_int, default=160, help="of ascent (default: 160)")
    parser.add_argument("--size", type=positive_int, default=160, help="of the renders in pixels (default: 160)")
    return run_command("held_open", lambda: write_renders(parser.parse_args(protect_specs(sys.argv[1:]))))


if __name__ == "__main__":
    sys.exit(main())
