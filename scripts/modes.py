"""The co-gating modes of a block: what its gates tell of a picture together, rendered and found in pictures.

    python scripts/modes.py embedded features.9.block.2 --images CROPS --out out
    python scripts/modes.py embedded features.9.block.2 --images CROPS --method nmf --count 8 --out out

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. Each mode is rendered against and along its
direction, and the pictures are shown that lie furthest out on it. Whether a render shows its mode is measured on
held-out views: the cosine between the mode and what the gates' logits do, seen from their natural mean, and the
largest such cosine with another mode. Of a block's logits on pictures one mode is only a part, so a render at 1 is
purer than any picture. Writes modes.json and modes.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from canvas import COOL, FAINT, GREY, INK, WARM, Canvas
from gate_statistics import add_natural, measured, write_json
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable
from featureviz.lab import GateStatistics, Modes, Pictures, modes, read_picture
from featureviz.network.taps import GATE
from featureviz.options import add_model_options, load_model, positive_int
from featureviz.rng import HELD_OUT, Rng
from featureviz.transform import Pipeline, robust

VIEWS, PICTURES, TOP_GATES = 16, 3, 5


class End(NamedTuple):
    """One end of a mode: its render, the pictures furthest out, and the gates that it opens.

    ``amount`` is how far out the render is, in natural standard deviations, ``cosine`` that with the mode, ``other``
    the largest with another one.
    """

    amount: float
    cosine: float
    other: float
    pictures: list[str]
    opens: list[int]


class Mode(NamedTuple):
    share: float
    minus: End
    plus: End


def held_out(model: fv.TappedModel, site: str, images: Tensor) -> Tensor:
    """The block's logits for images ``[N,3,H,W]``, means over views that no ascent has seen: ``[N,C]``."""
    size = model.input_size((images.shape[-2], images.shape[-1]))
    layer, means = GATE + site, []
    for number, image in enumerate(images):
        rng = Rng(0, torch.tensor([number]), VIEWS, model.device, step=HELD_OUT)
        with torch.no_grad():
            views = Pipeline(robust()).to(model.device)(image[None].to(model.device), rng, size)
            means.append(model(views, [layer])[layer].float().mean(0).cpu())
    return torch.stack(means)


def furthest(found: Modes, natural: GateStatistics, folder: str) -> tuple[list[list[str]], list[Tensor]]:
    """Of each mode the pictures furthest against it, then along it: names, and themselves ``[2P,3,h,h]``."""
    pictures = Pictures(folder, 2 * PHOTO)
    places = dict(zip(pictures.names, pictures.paths, strict=True))
    order = found.amounts(natural[found.site].logit_sample).argsort(dim=0, stable=True)  # [R,k]
    numbers = natural.sample[torch.cat([order[:PICTURES], order.flip(0)[:PICTURES]])].T.tolist()
    names = [[natural.names.get(n, str(n)) for n in row] for row in numbers]
    missing = [name for row in names for name in row if name not in places]
    if missing:
        raise fv.FeaturevizError(
            f"{folder} has no {missing[0]!r}, which was among the pictures measured; give their folder as --images"
        )
    return names, [torch.stack([read_picture(places[name], pictures.size) for name in row]) for row in names]


def ends(found: Modes, logits: Tensor, names: Sequence[Sequence[str]]) -> list[Mode]:
    """What became of the renders, with logits ``[2,k,C]``: those against each mode, then those along it."""
    return [
        Mode(
            float(found.share[i]),
            *(end(found, i, sign, z[i], names[i]) for z, sign in zip(logits, (-1, 1), strict=True)),
        )
        for i in range(len(found))
    ]


def end(found: Modes, mode: int, sign: int, z: Tensor, names: Sequence[str]) -> End:
    cosines, amounts = found.cosines(z[None])[0], found.amounts(z[None])[0]
    others = torch.cat([cosines[:mode], cosines[mode + 1 :]]).abs().tolist()
    weights, units = (sign * found.vectors[mode]).topk(min(TOP_GATES, len(z)))
    half = len(names) // 2
    return End(
        float(sign * amounts[mode]),
        float(sign * cosines[mode]),
        max(others, default=0.0),
        list(names[:half] if sign < 0 else names[half:]),
        units[weights > 0].tolist(),
    )


def gates(mode: Mode, end: End) -> str:
    """What an end of a mode does to the gates: of non-negative parts, the one end opens what the other shuts."""
    other = mode.plus if end is mode.minus else mode.minus
    return f"opens {', '.join(map(str, end.opens))}" if end.opens else f"shuts {', '.join(map(str, other.opens))}"


def table(told: Sequence[Mode]) -> str:
    """Two lines a mode for the terminal."""
    lines = [f"{'mode':>4}  {'variance':>8}  end     sd  cosine  next"]
    for i, mode in enumerate(told):
        for sign, end, head in (
            ("-", mode.minus, f"{i:4}  {mode.share:8.1%}"), ("+", mode.plus, " " * 14),
        ):  # fmt: skip
            numbers = f"{end.amount:6.1f}  {end.cosine:6.2f}  {end.other:4.2f}"
            lines.append(f"{head}  {sign}   {numbers}   {gates(mode, end)}")
    return "\n".join(lines)


RENDER, PHOTO, ROW, TOP, SIDE, MIDDLE = 100, 64, 124, 92, 20, 372  # pixels


def picture(
    title: str, note: str, told: Sequence[Mode], images: Tensor, shown: Sequence[Tensor], amounts: Tensor
) -> Canvas:
    """A row a mode: renders ``[2,k,3,H,W]`` outside, the pictures beside them ``[2P,3,h,w]`` each, its range between.

    ``amounts`` ``[R,k]`` are those of natural pictures.
    """
    left = SIDE + RENDER + 8 + PICTURES * (PHOTO + 4) + 20
    sheet = Canvas(2 * left + MIDDLE, TOP + ROW * len(told))
    sheet.text(SIDE, 14, title, INK, 19, bold=True)
    sheet.text(SIDE, 42, note, GREY)
    right = sheet.width - SIDE
    for x, text, anchor in (
        (SIDE, "render against it", "lm"), (SIDE + RENDER + 8, "pictures furthest that way", "lm"),
        (left + MIDDLE / 2, "pictures along the mode, in standard deviations", "mm"),
        (right - RENDER - 8, "pictures furthest that way", "rm"), (right, "render along it", "rm"),
    ):  # fmt: skip
        sheet.text(x, TOP - 18, text, GREY, 12, anchor)
    reach = max(4.0, *(abs(e.amount) + 0.8 for m in told for e in (m.minus, m.plus)), float(amounts.abs().amax()))
    for i, mode in enumerate(told):
        y = TOP + ROW * i
        sheet.image(images[0, i], SIDE, y, RENDER)
        sheet.image(images[1, i], right - RENDER, y, RENDER)
        for j, photo in enumerate(shown[i]):
            x = SIDE + RENDER + 8 + j % (len(shown[i]) // 2) * (PHOTO + 4)
            x = x if j < len(shown[i]) / 2 else sheet.width - x - PHOTO
            sheet.image(photo, x, y + (RENDER - PHOTO) / 2, PHOTO)
        middle(sheet, i, mode, amounts[:, i], left, y, reach)
    return sheet


def middle(sheet: Canvas, number: int, mode: Mode, amounts: Tensor, left: float, y: float, reach: float) -> None:
    """The mode's name and share, the histogram of pictures on it, and where its renders are."""
    centre, right, floor = left + MIDDLE / 2, left + MIDDLE, y + 66

    sheet.text(left, y + 8, f"mode {number}", INK, 14, "lm", bold=True)
    sheet.text(right, y + 8, f"{100 * mode.share:.0f} % of the variance", GREY, 12, "rm")
    bars = torch.histc(amounts, 60, -reach, reach)
    for i, bar in enumerate((40 * bars / bars.amax().clamp(min=1)).tolist()):
        x = left + i * MIDDLE / 60
        sheet.box(x, floor - bar, x + MIDDLE / 60 - 1, floor, (178, 183, 191))
    sheet.line([(left, floor), (right, floor)], FAINT)
    for sign, end, colour, x, anchor in ((-1, mode.minus, COOL, left, "lm"), (1, mode.plus, WARM, right, "rm")):
        sheet.dot(centre + sign * end.amount / reach * MIDDLE / 2, floor, 6, colour)
        far = f"{sign * end.amount:.1f} sd, cosine {end.cosine:.2f}, next {end.other:.2f}"
        sheet.text(x, y + 86, far, colour, 12, anchor, bold=True)
        sheet.text(x, y + 103, gates(mode, end), GREY, 12, anchor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_natural(parser)
    parser.add_argument("--count", type=positive_int, default=5, help="of modes (default: 5)")
    parser.add_argument("--method", choices=["svd", "nmf"], default="svd", help="(default: svd)")
    parser.add_argument("--power", type=float, default=4, help="of the cosine that keeps a render on its mode")
    parser.add_argument("--steps", type=positive_int, default=128, help="of ascent (default: 128)")
    parser.add_argument("--size", type=positive_int, default=128, help="of the renders in pixels (default: 128)")
    args = parser.parse_args()
    try:
        out, model = check_writable(args.out), load_model(args)
        site = fv.gates(model)[args.site].name
        natural = measured(model, args)
        found = modes(natural, site, args.count, method=args.method)
        names, shown = furthest(found, natural, args.images)
        goals = [found.objective(i, sign, power=args.power) for sign in (-1, 1) for i in range(len(found))]
        made = fv.render(model, goals, steps=args.steps, size=args.size).images
        told = ends(found, held_out(model, site, made).unflatten(0, (2, -1)), names)
        print(table(told))
        facts = {"model": model.name, "block": site, "pictures": natural.count, "method": args.method}
        facts |= {"power": args.power, "steps": args.steps, "size": args.size, "input": model.size}
        report = [{"share": m.share, "minus": m.minus._asdict(), "plus": m.plus._asdict()} for m in told]
        write_json(out / "modes.json", {**facts, "modes": report})
        note = (
            f"{model.name}, {natural.count:,} pictures; cosine of what a render does to the logits with its mode, and"
            f" the next largest with another, on {VIEWS} held-out views"
        )
        title = f"What the gates of {site} do together: {len(told)} modes ({args.method})"
        sheet = picture(title, note, told, made.unflatten(0, (2, -1)), shown, found.amounts(natural[site].logit_sample))
        print(sheet.save(out / "modes.png"))
    except fv.FeaturevizError as error:
        print(f"modes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
