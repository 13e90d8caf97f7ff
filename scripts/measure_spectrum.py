"""Measure how strong each frequency is in photographs: the amplitudes that fv.MacoImage keeps.

    python scripts/measure_spectrum.py --out featureviz/image/frequencies/spectrum.npz

Without --images it reads the photographs of the Debian package lomiri-wallpapers-16.04 and of scikit-image, which are
under CC0, CC-BY, CC-BY-SA or in the public domain. Of a photograph, only its mean amplitudes are kept. The file holds
their logarithms, the names of the photographs, and how they were measured.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from examples import find_examples

import featureviz as fv
from featureviz.files import write_bytes
from featureviz.image.frequencies.template import CROP, measure
from featureviz.image.picture import read_picture
from featureviz.options import run_command

WALLPAPERS, PHOTOGRAPHS = Path("/usr/share/backgrounds"), (
    "aitzgorri_by_Aitzol_Berasategi", "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "free_by_Peter_Nerlich",
    "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi",
    "Picture_0B_by_freespace", "Picture_1A_by_freespace", "seeding_by_Clements_Engelhardt",
    "sunset_by_Aitzol_Berasategi", "Wine_by_Jakkub_Mede",
)  # fmt: skip
EXAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")  # of scikit-image


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", help="photographs of at least 384 px a side")
    parser.add_argument("--out", type=Path, required=True, help="an .npz file")
    return run_command("measure_spectrum", lambda: write_spectrum(parser.parse_args()))


def write_spectrum(args: argparse.Namespace) -> None:
    """Measure the photographs, and write the file."""
    paths = args.images or default_photographs()
    table = measure(read_picture(path) for path in paths)
    how = f"log of the mean amplitude, orthonormal, by |fy| and |fx| in steps of 1/{CROP} cycles per pixel"
    names = [path.name for path in paths]
    file = io.BytesIO()
    np.savez_compressed(file, log_amplitude=table.numpy().astype(np.float16), photographs=names, how=how)
    write_bytes(args.out, file.getvalue())
    print(f"{args.out}: {len(names)} photographs, {len(file.getvalue()) / 1000:.0f} kB")


def default_photographs() -> list[Path]:
    examples = find_examples()
    paths = [WALLPAPERS / f"{name}.jpg" for name in PHOTOGRAPHS] + [examples / name for name in EXAMPLES]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise fv.FeaturevizError(f"no {missing[0]}: install lomiri-wallpapers-16.04, or give --images")
    return [path for path in paths if min(read_picture(path).shape[1:]) >= CROP]


if __name__ == "__main__":
    sys.exit(main())
