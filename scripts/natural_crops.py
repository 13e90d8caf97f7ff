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


def is_drawing(picture: np.ndarray) -> bool:
    """Whether most pixels of the bytes ``[H,W,3]`` equal their right neighbour, as in drawings and plain skies."""
    return bool((picture[:, 1:] == picture[:, :-1]).all(-1).mean() > 0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--count", type=int, default=1500, help="of crops (default: 1500)")
    parser.add_argument("--seed", type=int, default=7, help="(default: 7)")
    args = parser.parse_args()
    photos = [photo for held_out in (False, True) for photo in read_sources(PHOTOS, alpha=False, held_out=held_out)]
    if not photos:
        print(f"no photographs under {', '.join(PHOTOS)}; docs/embedded.md names the packages", file=sys.stderr)
        return 2
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
