"""Which pixels of a photograph a score depends on, and how much of it depends on them through the gates of a block.

    python scripts/saliency.py embedded features.9.block.2 'logit:"missile"' --image picture.jpg --out out
    python scripts/saliency.py torchvision:efficientnet_b0 features.6.0.block.2 gate:features.6.2.block.2:5 --out out

The script writes TARGET-HASH.png: the gradient, Grad-CAM, and integrated gradients with their parts through the content
and through the gates. For every block before the target it prints the share of the gates in the gradient. It needs
captum: pip install 'featureviz[attribution]'.
"""

from __future__ import annotations

import argparse
import sys

from activation_grid import add_options, read_photograph

from featureviz.files import check_writable, make_file_name
from featureviz.lab import gradient_path_profile, saliency_sheet, save_picture
from featureviz.lab.attribution.integrated import BASELINES, BLURRED
from featureviz.options import load_model, positive_int, protect_specs, run_command


def write_sheet(args: argparse.Namespace) -> None:
    """Draw the sheet and print the profile."""
    out, model = check_writable(args.out), load_model(args)
    image = read_photograph(args.image, model.size or 224)
    sheet = saliency_sheet(model, args.target, args.site, image, baseline=args.baseline, steps=args.steps)
    profile = gradient_path_profile(model, args.target, image)
    path = save_picture(sheet, out / make_file_name(args.target.strip()))
    print(*(f"{name:40} gate share {float(paths.gate_share):.3f}" for name, paths in profile.items()), path, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    parser.add_argument("target", help="an objective, such as logit:207, features.12:3 or gate:features.12.block.2:5")
    parser.add_argument("--baseline", choices=BASELINES, default=BLURRED, help="the start of integrated gradients")
    parser.add_argument("--steps", type=positive_int, default=64, help="of integrated gradients (default: 64)")
    return run_command("saliency", lambda: write_sheet(parser.parse_args(protect_specs(sys.argv[1:]))))


if __name__ == "__main__":
    sys.exit(main())
