"""Natural pictures to measure gates on: crops of the photographs in Debian's packages and scikit-image.

    python scripts/natural_crops.py --out crops --count 1500

The crops have 192 px and many scales, like the training pictures of the embedded network but without pasted objects.
Flat drawings, in which more than half of the neighbouring pixels are equal, are left out. docs/embedded.md names the
packages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from composites import PHOTOS, Composites, read_sources
from tqdm import tqdm

import featureviz as fv
from featureviz.files import check_writable
from featureviz.options import positive_int, run_command


def is_drawing(picture: np.ndarray) -> bool:
    """Whether most pixels of the bytes ``[H,W,3]`` equal their right neighbour, as in drawings and plain skies."""
    return bool((picture[:, 1:] == picture[:, :-1]).all(-1).mean() > 0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--count", type=positive_int, default=1500, help="of crops (default: 1500)")
    parser.add_argument("--seed", type=int, default=7, help="(default: 7)")
    return run_command("natural_crops", lambda: write_crops(parser.parse_args()))


def write_crops(args: argparse.Namespace) -> None:
    """Read the photographs, and write crops of them."""
    check_writable(args.out)
    photos = [photo for held_out in (False, True) for photo in read_sources(PHOTOS, alpha=False, held_out=held_out)]
    if not photos:
        raise fv.FeaturevizError(f"no photographs under {', '.join(PHOTOS)}; docs/embedded.md names the packages")
    crops = Composites(photos, [], 4 * args.count, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = 0
    with tqdm(total=args.count, unit="crop") as bar:
        for i in range(len(crops)):
            picture = crops[i].numpy()
            if not is_drawing(picture):
                iio.imwrite(args.out / f"{kept:05}.jpg", picture, quality=95)
                kept += 1
                bar.update()
            if kept == args.count:
                break
    print(f"{kept} crops of {len(photos)} photographs in {args.out}")


if __name__ == "__main__":
    sys.exit(main())
