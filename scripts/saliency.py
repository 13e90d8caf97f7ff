"""What a score rests on in a photograph, and how much of it goes through the gates of a block.

    python scripts/saliency.py embedded features.9.block.2 'logit:"missile"' --image picture.jpg --out out
    python scripts/saliency.py torchvision:efficientnet_b0 features.6.0.block.2 gate:features.6.2.block.2:5 --out out

Writes TARGET.png: gradient, Grad-CAM, and integrated gradients with their parts through the content and through the
gates. Prints, for every block before the target, the share of the gates in the gradient. Needs captum: pip install
'featureviz[attribution]'.
"""

from __future__ import annotations

import argparse
import sys

from activation_grid import add_options, photograph

import featureviz as fv
from featureviz.files import check_writable, make_file_name
from featureviz.lab.attribution.gradient_paths import splits
from featureviz.lab.attribution.saliency import BASELINES, BLURRED
from featureviz.lab.attribution.saliency_sheet import saliency_sheet
from featureviz.lab.draw.colormap import save_picture
from featureviz.options import load_model, positive_int, protect_specs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    parser.add_argument("target", help="an objective, such as logit:207, features.12:3 or gate:features.12.block.2:5")
    parser.add_argument("--baseline", choices=BASELINES, default=BLURRED, help="where integrated gradients begin")
    parser.add_argument("--steps", type=positive_int, default=64, help="of integrated gradients (default: 64)")
    args = parser.parse_args(protect_specs(sys.argv[1:]))
    try:
        out, model = check_writable(args.out), load_model(args)
        image = photograph(model, args.image)
        sheet = saliency_sheet(model, args.target, args.site, image, baseline=args.baseline, steps=args.steps)
        for name, parts in splits(model, args.target, image).items():
            print(f"{name:40} gate share {float(parts.gate_share):.3f}")
        print(save_picture(sheet, out / make_file_name(args.target.strip())))
    except fv.FeaturevizError as error:
        print(f"saliency: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
