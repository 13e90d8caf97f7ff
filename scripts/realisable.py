"""Whether the gates of a block can be shut and opened at all: by pictures, by natural squeezes, by renders.

    python scripts/realisable.py embedded features.9.block.2 --images CROPS --out out
    python scripts/realisable.py torchvision:efficientnet_b0 features.6.0.block.2 --images CROPS --units 3 14 --out out

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. For each gate the script gives the logits of
pictures, the lowest and highest logit of mixtures of their squeezes and of all natural squeezes
(featureviz.lab.reachable_range), and the logit that renders of -Gate and Gate reach on held-out views. It also gives
the distance of the renders' squeezes from the natural mean in radii; up to 1 is natural. The verdict
is the first of these that applies:

    past natural bound    the logit is beyond that of any natural squeeze
    reached               the render shuts the gate (value <= 0.01) or opens it (>= 0.99)
    impossible            no natural squeeze shuts or opens it
    past all pictures     the render goes further than any mixture of pictures' squeezes
    failed ascent         a mixture of pictures' squeezes goes further than the render

A natural squeeze lies in the ellipsoid that contains 99.9 % of the pictures' squeezes. Whether a picture has it is
another question: in a block of many channels most of that ellipsoid is far from any picture. The script writes
realisable.json and realisable.png. Without --units the gates run from the one that varies most to the one that varies
least.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from gate_statistics import add_statistics_options, load_or_measure
from realisable_sheet import draw, format_table

import featureviz as fv
from featureviz.files import check_writable, write_json
from featureviz.lab.gates.reachability_study import ReachabilityStudy, choose_gates
from featureviz.options import add_model_options, add_units_option, load_model, positive_int, read_units, run_command


def write_study(args: argparse.Namespace) -> None:
    """Compute, print and draw."""
    out, model = check_writable(args.out), load_model(args)
    site = fv.gates(model)[args.site]
    natural = load_or_measure(model, args)
    units = choose_gates(natural, site, read_units(args), args.count)
    study = ReachabilityStudy(model, site, natural)
    gates, images = study.render_gates(units, steps=args.steps, size=args.size)
    facts = {"model": model.name, "block": site.name, "pictures": natural.count, "steps": args.steps}
    rows = [g._asdict() | {k: getattr(g, k)._asdict() for k in ("suppressed", "excited")} for g in gates]
    write_json(out / "realisable.json", {**facts, "size": args.size, "input": model.size, "gates": rows})
    title = f"What the gates of {site.name} can be brought to"
    note = (
        f"{model.name}, {natural.count:,} pictures, {args.steps} steps, 16 held-out views. Failed ascent: a mixture"
        " goes further; impossible: no natural squeeze would do it"
    )
    sheet = draw(title, note, gates, images, partial(study.values, units[0])).save(out / "realisable.png")
    print(format_table(gates), sheet, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_statistics_options(parser)
    add_units_option(parser, "the gates (default: --count of them)")
    parser.add_argument("--count", type=positive_int, default=8, help="(default: 8)")
    parser.add_argument("--steps", type=positive_int, default=96, help="of ascent (default: 96)")
    parser.add_argument("--size", type=positive_int, default=128, help="of the renders in pixels (default: 128)")
    return run_command("realisable", lambda: write_study(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
