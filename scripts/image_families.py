"""The pictures and the figures of docs/images.md.

    python scripts/image_families.py families embedded features.6:17 --out docs/images_families.png
    python scripts/image_families.py transforms --out docs/images_transforms.png
    python scripts/image_families.py maco MODEL LAYER:[0:8] --weights PATH --out docs/images_maco.jpg
    python scripts/image_families.py memory --size 1024

`families` renders one objective with each parameterization. `transforms` shows four views of a photograph for each
transform. `maco` puts the same units side by side, from Fourier images and from MACO images, with held-out scores and
seconds. `memory` prints what a step of each parameterization holds at its most; each is a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from activation_grid import read_photograph
from torch import Tensor

import featureviz as fv
from featureviz.lab import draw_sheet, save_picture
from featureviz.lab.draw.sheet import join_row
from featureviz.options import add_model_options, load_model, positive_int, run_command
from featureviz.rendering.png import over_white
from featureviz.transform import Blur, ColorJitter, Crop, Flip, Homography, Jitter, Noise, Pipeline, Roll, Rotate, Scale

STEPS, SIZE = 128, 128


def families(picture: Tensor) -> dict[str, tuple[Any, dict[str, Any]]]:
    """For each parameterization: what makes it, and the options that suit it."""
    height, width = picture.shape[1:]
    mask = torch.zeros(height, width)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = 1
    return {
        "FourierImage": (fv.FourierImage, {}),
        "PixelImage": (fv.PixelImage, {}),
        "PyramidImage": (fv.PyramidImage, {}),
        "CPPNImage": (fv.CPPNImage, {"optimizer": fv.Adam(0.005)}),
        "GreyImage": (fv.GreyImage, {}),
        "SharedImage": (fv.SharedImage, {}),
        "AlphaImage": (fv.AlphaImage, {}),
        "MacoImage": (fv.MacoImage, {"optimizer": fv.maco()["optimizer"]}),
        "FourierImage(image=)": (picture, {}),
        "MaskedImage": (fv.MaskedImage(image=picture, mask=mask), {}),
        "BallImage": (fv.BallImage(image=picture, radius=0.1), {}),
        "FourierImage, Roll()": (fv.FourierImage, {"transforms": [Roll(), *fv.transform.robust()]}),
    }


def show_families(args: argparse.Namespace) -> None:
    """Render the objective with each, and print scores and seconds."""
    model, picture = load_model(args), read_photograph(args.image, SIZE, "chelsea.png")
    goal, cells, steps = fv.parse(args.objective), [], args.steps
    for name, (image, options) in families(picture).items():
        own = goal * (1 - fv.Channel(".alpha", 0)) if image is fv.AlphaImage else goal
        start = time.perf_counter()
        made = fv.render(model, own, image=image, size=SIZE, steps=steps, progress=False, **options)
        seconds, score = time.perf_counter() - start, float(made.held_out.scores.mean())
        print(f"{name:22} held-out score {score:7.3f}   {1000 * seconds / max(1, steps):6.1f} ms a step")
        cells.append((name, (over_white(made.images) if made.alpha else made.images)[0]))
    save_picture(draw_sheet(cells, columns=6, smallest=SIZE), args.out)


def show_transforms(args: argparse.Namespace) -> None:
    """Four views of a photograph for each transform."""
    photograph = read_photograph(args.image, 256, "astronaut.png")[None]
    stages: dict[str, list[torch.nn.Module]] = {
        "robust(), the default": list(fv.transform.robust()), "Jitter(32)": [Jitter(32)],
        "Scale(0.7, 1.4)": [Scale(0.7, 1.4)],
        "Rotate(30)": [Rotate(30)], "Flip()": [Flip()], "Crop(0.2, 0.5)": [Crop(0.2, 0.5)],
        "Homography(0.3)": [Homography(0.3)], "Roll()": [Roll()], "Blur(0, 3)": [Blur(0, 3)],
        "Noise(0.1)": [Noise(0.1)], "ColorJitter(0.3, 0.3)": [ColorJitter(0.3, 0.3)],
        "Crop + Homography + Noise": [Crop(0.4, 0.6), Homography(0.3), Noise(0.05)],
    }  # fmt: skip
    cells = []
    for name, transforms in stages.items():
        views = Pipeline(transforms)(photograph, fv.Rng(0, 1, views=4), (96, 96)).clamp(0, 1)
        cells.append((name, join_row(list(views))))
    save_picture(draw_sheet(cells, columns=3, smallest=96), args.out)


def show_maco(args: argparse.Namespace) -> None:
    """The same units from Fourier images (above) and from MACO images, with as many views of each image."""
    model, goal, cells, views = load_model(args), fv.parse(args.objective), [], 4
    steps = args.steps
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "Fourier": lambda: {"size": model.size or 224, "steps": steps, "views": views},
        "MACO": lambda: fv.maco(steps, args.size),
    }
    for name, options in kinds.items():
        start = time.perf_counter()
        made = fv.render(model, goal, **options())
        seconds, scores = time.perf_counter() - start, made.held_out.scores.mean(0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{name}: {seconds:.0f} s for {len(made)} images, {steps} steps, {views} views; peak so far {peak:.2f} GB"
        )
        print("  held-out scores", *(f"{score:.3g}" for score in scores.tolist()))
        small = torch.nn.functional.interpolate(made.images, (224, 224), mode="bilinear", antialias=True)
        cells += [(f"{name} {spec}", image) for spec, image in zip(made.specs, small, strict=True)]
    save_picture(draw_sheet(cells, columns=len(cells) // 2, smallest=224), args.out)


def show_memory(args: argparse.Namespace) -> None:
    """Start a process for each parameterization, since a process does not give its peak back."""
    names = list(families(torch.rand(3, 8, 8)))[:-1]
    for name in [args.family] if args.family else names:
        if args.family is None:
            subprocess.run([sys.executable, __file__, "memory", "--size", str(args.size), "--family", name], check=True)
            continue
        model = fv.load("embedded")
        image, options = families(torch.rand(3, args.size, args.size))[name]
        held = Path("/proc/self/statm").read_text().split()[1]  # pages, now; the peak of the imports may be higher
        before = int(held) * resource.getpagesize() / 1024
        fv.render(model, "features.6:17", image=image, size=args.size, steps=2, progress=False, **options)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{name:22} {(after - before) / 1000:6.0f} MB for an image of {args.size} px, beside the network")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    works = {"families": show_families, "transforms": show_transforms, "maco": show_maco, "memory": show_memory}
    for name, work in works.items():
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        if name in ("families", "maco"):
            add_model_options(command)
            command.add_argument("objective", help="such as features.6:17, or features.6:[0:8]")
            command.add_argument("--steps", type=positive_int, default=STEPS if name == "families" else 256)
        command.add_argument("--image", default=None, help="a photograph (default: one of scikit-image)")
        command.add_argument("--size", type=positive_int, default=512 if name == "maco" else 1024)
        command.add_argument("--family", default=None, help="one parameterization only")
        command.add_argument("--out", type=Path, default=Path(f"images_{name}.png"))
    args = parser.parse_args()
    return run_command("image_families", lambda: args.work(args))


if __name__ == "__main__":
    sys.exit(main())
