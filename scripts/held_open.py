"""What a channel would look for if the gates of a block were always open, always shut, or did not look.

    python scripts/held_open.py embedded features.9:17 features.9.block.2 --images CROPS --out out
    python scripts/held_open.py torchvision:efficientnet_b0 features.6.2:3 features.6.2.block.2 --out out

One objective, any spec, rendered from one noise: with the network as it is; with the gates of a block held at 1; at 0;
at the mean of natural pictures, where these are given; and with gates that act but pass no gradient, so that the
picture can only work through the content. Each render is judged on held-out views, under what it was made with and on
the network as it is. Writes held_open.json and held_open.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from canvas import COOL, GREY, INK, PALE, WARM, Canvas
from gate_statistics import add_natural, measured, write_json
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable
from featureviz.lab import GateStatistics
from featureviz.options import add_model_options, load_model, positive_int, protect_specs

Context = Callable[[], AbstractContextManager[Any]]


class Held(NamedTuple):
    """A render and its held-out scores, under what it was made with and on the plain network.

    ``still``: no step changed its score, so it is the noise that it began as.
    """

    way: str
    image: Tensor
    own: float
    plain: float
    still: bool


def ways(model: fv.TappedModel, site: str, natural: GateStatistics | None) -> dict[str, Context]:
    """What is done to the block's gates while a picture is made."""
    made: dict[str, Context] = {"the gates as they are": nullcontext}
    made |= {f"all gates held at {value}": partial(fv.clamp, model, site, float(value)) for value in (1, 0)}
    if natural is not None:
        made["each at its natural mean"] = partial(fv.mean_ablate, model, site, natural)
    return {**made, "no gradient through gates": partial(fv.stop_gradient, model, site)}


def renders(
    model: fv.TappedModel, goal: fv.Objective, contexts: dict[str, Context], steps: int, size: int
) -> list[Held]:
    held: list[Held] = []
    for way, context in contexts.items():
        with context():
            made = fv.render(model, goal, steps=steps, size=size)
        plain = fv.evaluate(model, goal, made.images).scores.mean()
        still = bool(made.scores.amax() == made.scores.amin())
        held.append(Held(way, made.images[0], float(made.held_out.scores.mean()), float(plain), still))
    return held


def table(held: Sequence[Held]) -> str:
    lines = [f"{'':26} {'under that':>12} {'plain network':>14}"]
    lines += [f"{h.way:26} {h.own:12.3f} {h.plain:14.3f}{'  nothing moves it' * h.still}" for h in held]
    return "\n".join(lines)


SIDE, GAP, EDGE, TOP, FOOT = 208, 18, 20, 104, 92  # pixels


def picture(title: str, note: str, held: Sequence[Held]) -> Canvas:
    """A row of renders, under each its two scores as bars on one scale."""
    sheet = Canvas(2 * EDGE + len(held) * (SIDE + GAP) - GAP, TOP + SIDE + FOOT)
    sheet.text(EDGE, 14, title, INK, 19, bold=True)
    sheet.text(EDGE, 42, note, GREY)
    scores = [0.0, *(v for h in held for v in (h.own, h.plain))]
    low, high = min(scores), max(scores)
    width = SIDE - 56

    def at(score: float) -> float:
        return width * (score - low) / max(high - low, 1e-12)

    for i, h in enumerate(held):
        x, y = EDGE + i * (SIDE + GAP), TOP + SIDE + 16
        sheet.text(x, TOP - 12, h.way, INK, 13, "lm", bold=True)
        sheet.image(h.image, x, TOP, SIDE)
        if h.still:
            sheet.text(x + SIDE, TOP - 12, "nothing moves it", GREY, 12, "rm")
        for score, colour, dy in ((h.own, WARM, 0), (h.plain, COOL, 22)):
            start, end = sorted((at(0.0), at(score)))
            sheet.box(x, y + dy, x + width, y + dy + 12, PALE)
            sheet.box(x + start, y + dy, x + end, y + dy + 12, colour)
            sheet.text(x + SIDE, y + dy + 6, f"{score:.2f}", colour, 13, "rm", bold=True)
    for x, colour, text in (
        (EDGE, WARM, "held-out score under what it was made with"), (EDGE + 320, COOL, "on the network as it is"),
    ):  # fmt: skip
        sheet.box(x, sheet.height - 26, x + 12, sheet.height - 14, colour)
        sheet.text(x + 20, sheet.height - 20, text, GREY, 12, "lm")
    return sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("goal", help="an objective for one image, such as features.9:17 or logit:207")
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_natural(parser, required=False)
    parser.add_argument("--steps", type=positive_int, default=160, help="of ascent (default: 160)")
    parser.add_argument("--size", type=positive_int, default=160, help="of the renders in pixels (default: 160)")
    args = parser.parse_args(protect_specs(sys.argv[1:]))
    try:
        out, model = check_writable(args.out), load_model(args)
        goal, site = fv.parse(args.goal), fv.gates(model)[args.site].name
        if goal.n != 1:
            raise fv.FeaturevizError(f"{args.goal} was given, which is for {goal.n} images; expected one")
        natural = measured(model, args) if args.images or args.statistics else None
        held = renders(model, goal, ways(model, site, natural), args.steps, args.size)
        print(table(held))
        facts = {"model": model.name, "objective": goal.spec, "block": site, "steps": args.steps, "size": args.size}
        told = [{"way": h.way, "own": h.own, "plain": h.plain, "still": h.still} for h in held]
        write_json(out / "held_open.json", {**facts, "renders": told})
        title = f"What {goal.spec} looks for, and the gates of {site}"
        note = f"{model.name}, {args.steps} steps from the same noise, judged on 16 held-out views"
        print(picture(title, note, held).save(out / "held_open.png"))
    except fv.FeaturevizError as error:
        print(f"held_open: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
