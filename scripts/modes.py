"""The co-gating modes of a block: directions in which its gates vary together, rendered, and shown with pictures.

    python scripts/modes.py embedded features.9.block.2 --images CROPS --out out
    python scripts/modes.py embedded features.9.block.2 --images CROPS --method nmf --count 8 --out out

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. Each mode is rendered against and along its
direction, and the pictures furthest along it are shown. How well a render shows its mode is measured on held-out views:
the cosine between the mode and the change of the logits from their natural mean, and the largest such cosine with
another mode. One mode is only a part of a picture's logits, so a render can be purer than any picture. The script
writes modes.json and modes.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from gate_statistics import add_statistics_options, load_or_measure
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable, write_json
from featureviz.lab import Modes, modes
from featureviz.lab.draw.canvas import COOL, FAINT, GREY, INK, WARM, Canvas
from featureviz.lab.gates.mode_renders import PICTURES, VIEWS, ModeEnd, ModeRenders, render_modes
from featureviz.options import add_model_options, load_model, positive_int, run_command

RENDER, PHOTO, ROW, TOP, SIDE, MIDDLE = 100, 64, 124, 92, 20, 372  # pixels
Ends = tuple[ModeEnd, ModeEnd]


def describe_gates(ends: Ends, sign: int) -> str:
    """What one end of a mode does to the gates. An end that opens none shuts those that the other end opens."""
    end, other = ends if sign < 0 else ends[::-1]
    return f"opens {', '.join(map(str, end.opens))}" if end.opens else f"shuts {', '.join(map(str, other.opens))}"


def format_table(block_modes: Modes, ends: Sequence[Ends]) -> str:
    """Two lines for each mode."""
    lines = [f"{'mode':>4}  {'variance':>8}  end     sd  cosine  next"]
    for i, both in enumerate(ends):
        for sign, end, head in ((-1, both[0], f"{i:4}  {float(block_modes.share[i]):8.1%}"), (1, both[1], " " * 14)):
            numbers = f"{end.amount:6.1f}  {end.cosine:6.2f}  {end.other:4.2f}"
            lines.append(f"{head}  {'-' if sign < 0 else '+'}   {numbers}   {describe_gates(both, sign)}")
    return "\n".join(lines)


def draw(title: str, note: str, block_modes: Modes, renders: ModeRenders, amounts: Tensor) -> Canvas:
    """A row for each mode: its renders outside, pictures next to them, and the distribution of pictures in the middle.

    ``amounts`` ``[R,k]`` are those of natural pictures.
    """
    left = SIDE + RENDER + 8 + PICTURES * (PHOTO + 4) + 20
    sheet = Canvas(2 * left + MIDDLE, TOP + ROW * len(block_modes))
    sheet.text(SIDE, 14, title, INK, 19, bold=True)
    sheet.text(SIDE, 42, note, GREY)
    right = sheet.width - SIDE
    for x, text, anchor in (
        (SIDE, "render against it", "lm"), (SIDE + RENDER + 8, "pictures furthest that way", "lm"),
        (left + MIDDLE / 2, "pictures along the mode, in standard deviations", "mm"),
        (right - RENDER - 8, "pictures furthest that way", "rm"), (right, "render along it", "rm"),
    ):  # fmt: skip
        sheet.text(x, TOP - 18, text, GREY, 12, anchor)
    reach = max(4.0, *(abs(e.amount) + 0.8 for both in renders.ends for e in both), float(amounts.abs().amax()))
    for i, photographs in enumerate(renders.photographs):
        y = TOP + ROW * i
        sheet.image(renders.images[0, i], SIDE, y, RENDER)
        sheet.image(renders.images[1, i], right - RENDER, y, RENDER)
        for j, photograph in enumerate(photographs):
            x = SIDE + RENDER + 8 + j % (len(photographs) // 2) * (PHOTO + 4)
            x = x if j < len(photographs) / 2 else sheet.width - x - PHOTO
            sheet.image(photograph, x, y + (RENDER - PHOTO) / 2, PHOTO)
        sheet.text(left, y + 8, f"mode {i}", INK, 14, "lm", bold=True)
        sheet.text(left + MIDDLE, y + 8, f"{100 * float(block_modes.share[i]):.0f} % of the variance", GREY, 12, "rm")
        draw_distribution(sheet, renders.ends[i], amounts[:, i], left, y, reach)
    return sheet


def draw_distribution(sheet: Canvas, ends: Ends, amounts: Tensor, left: float, y: float, reach: float) -> None:
    """The histogram of pictures along a mode, and the places of its renders."""
    centre, right, floor = left + MIDDLE / 2, left + MIDDLE, y + 66
    bars = torch.histc(amounts, 60, -reach, reach)
    for i, bar in enumerate((40 * bars / bars.amax().clamp(min=1)).tolist()):
        x = left + i * MIDDLE / 60
        sheet.box(x, floor - bar, x + MIDDLE / 60 - 1, floor, (178, 183, 191))
    sheet.line([(left, floor), (right, floor)], FAINT)
    for sign, end, color, x, anchor in ((-1, ends[0], COOL, left, "lm"), (1, ends[1], WARM, right, "rm")):
        sheet.dot(centre + sign * end.amount / reach * MIDDLE / 2, floor, 6, color)
        distance = f"{sign * end.amount:.1f} sd, cosine {end.cosine:.2f}, next {end.other:.2f}"
        sheet.text(x, y + 86, distance, color, 12, anchor, bold=True)
        sheet.text(x, y + 103, describe_gates(ends, sign), GREY, 12, anchor)


def write_modes(args: argparse.Namespace) -> None:
    """Compute, print and draw."""
    out, model = check_writable(args.out), load_model(args)
    site = fv.gates(model)[args.site].name
    natural = load_or_measure(model, args)
    block_modes = modes(natural, site, args.count, method=args.method)
    renders = render_modes(
        model,
        block_modes,
        natural,
        args.images,
        power=args.power,
        steps=args.steps,
        size=args.size,
        photograph_size=2 * PHOTO,
    )
    facts = {"model": model.name, "block": site, "pictures": natural.count, "method": args.method}
    facts |= {"power": args.power, "steps": args.steps, "size": args.size, "input": model.size}
    rows = [
        {"share": float(share), "minus": minus._asdict(), "plus": plus._asdict()}
        for share, (minus, plus) in zip(block_modes.share, renders.ends, strict=True)
    ]
    write_json(out / "modes.json", {**facts, "modes": rows})
    note = (
        f"{model.name}, {natural.count:,} pictures; cosine of the render's change of logits with its mode, and the"
        f" largest with another mode, on {VIEWS} held-out views"
    )
    title = f"What the gates of {site} do together: {len(block_modes)} modes ({args.method})"
    amounts = block_modes.amounts(natural[site].logit_sample)
    sheet = draw(title, note, block_modes, renders, amounts).save(out / "modes.png")
    print(format_table(block_modes, renders.ends), sheet, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_statistics_options(parser)
    parser.add_argument("--count", type=positive_int, default=5, help="of modes (default: 5)")
    parser.add_argument("--method", choices=["svd", "nmf"], default="svd", help="(default: svd)")
    parser.add_argument("--power", type=float, default=4, help="of the cosine that keeps a render on its mode")
    parser.add_argument("--steps", type=positive_int, default=128, help="of ascent (default: 128)")
    parser.add_argument("--size", type=positive_int, default=128, help="of the renders in pixels (default: 128)")
    return run_command("modes", lambda: write_modes(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
