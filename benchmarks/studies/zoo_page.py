"""The page of the zoo, docs/zoo.md: every entry rendered on the embedded network, with and without it, and its cost.

    python -m benchmarks.studies.zoo_page --image PHOTOGRAPH --out docs

Pictures go to OUT/zoo. ``photo.png`` in an example stands for the photograph. The cost is that of a step of eight
images with the entry over one without it: time of the processor, the smallest of several rounds taken in turns.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

import featureviz as fv

SIZE, STEPS, ROUNDS = 128, 128, 8
PHOTO, ALPHA = '"photo.png"', ".alpha"
NOTES = {
    "style": [
        "A bright or a dark blot is how an image meets statistics that do not say where: a small area of strong values"
        " gives a layer the same means as a large one of weak values. Another layer, or `l2`, leaves less of it."
    ]
}
FROM_PHOTO = {"input_diff", "deviation"}  # what they hold is where they start
THEORIES = {
    "batch": "Several images that belong together",
    "directions": "Directions in the space of channels",
    "weights": "Weighted channels",
    "schedules": "Weights that depend on the step",
    "priors": "Costs of the picture",
    "inversion": "A picture as a layer sees it",
    "style": "The statistics of a picture",
    "suppression": "One unit without the others",
    "gates": "Combinations of gates",
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", required=True, help="a photograph")
    parser.add_argument("--out", default="docs", help="folder of the page")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", nargs="*", default=[], help="entries to render again; the page is not written")
    args = parser.parse_args()
    out, model = Path(args.out), fv.load("embedded")
    (out / "zoo").mkdir(parents=True, exist_ok=True)
    photo = out / "zoo" / "photo.png"
    picture = fv.transform.Pipeline([])(fv.check_pictures(args.image), fv.Rng(0, 1), (SIZE, SIZE))
    iio.imwrite(photo, to_bytes(picture[0]))
    lines = list[str]()
    for folder, title in THEORIES.items():
        lines += ["", f"## {title}", *([""] + NOTES[folder] if folder in NOTES else [])]
        for name, entry in fv.zoo.installed().items():
            if entry.source.startswith(f"objectives_zoo.{folder}.") and (not args.only or name in args.only):
                lines += ["", *write_entry(model, entry, photo, out, args.steps)]
                print("\n".join(lines[-8:]), flush=True)
    if not args.only:
        template = Path(__file__).with_suffix(".md").read_text()
        (out / "zoo.md").write_text(template.replace("{entries}", "\n".join(lines).strip()))


def write_entry(model: fv.TappedModel, entry: fv.zoo.Entry, photo: Path, out: Path, steps: int) -> list[str]:
    """The section of an entry; renders its picture."""
    goal = fv.parse(entry.example.replace(PHOTO, json.dumps(str(photo))))
    shown, captions = list[Tensor](), list[str]()
    if PHOTO in entry.example:
        shown.append(fv.check_pictures(str(photo)))
        captions.append("the photograph")
    options: dict[str, Any] = {"image": str(photo)} if entry.name in FROM_PHOTO else {"size": SIZE}
    if ALPHA in goal.layers:
        options["image"] = fv.AlphaImage
    made = fv.render(model, goal, steps=steps, progress=False, **options)
    scores = f"Score on held-out views: {made.held_out.scores.mean():.3g}."
    if entry.beside:
        plain = fv.render(model, entry.beside, steps=steps, progress=False, **options)
        shown.append(plain.on_white())
        captions.append(f"`{shorten(entry.beside)}`")
        if len(plain.images) == len(made.images):
            before = fv.evaluate(model, goal, plain.images).scores.mean()
            scores += f" The same score of the picture without it: {before:.3g}."
    shown.append(made.on_white())
    captions.append("with it")
    write_row(out / "zoo" / f"{entry.name}.png", shown)
    start = " --image photo.png" if entry.name in FROM_PHOTO else " --alpha" if ALPHA in goal.layers else ""
    cost = measure_cost(model, goal, entry.beside or plain_goal(goal))
    told = re.split(r"\n\s*>>> ", inspect.getdoc(entry.make) or "")[0].strip()
    return [
        f"### {entry.name}", "", f"`{entry.signature}`", "", told, "",
        f"![{'; '.join(captions)}](zoo/{entry.name}.png)", "",
        f"*From left to right: {', '.join(captions)}.* {scores} Cost of a step: {cost:+.0%}.", "",
        "```sh", f"featureviz render embedded {shlex.quote(entry.example)}{start}", "```",
    ]  # fmt: skip


def plain_goal(goal: fv.Objective) -> str:
    """A channel of the deepest of its layers, whose cost is that of the network."""
    layers = [layer for layer in goal.layers if layer != "input"]
    return f"{layers[-1]}:0" if layers and ":" not in layers[-1] else "features.0:0"


def measure_cost(model: fv.TappedModel, goal: fv.Objective, beside: str) -> float:
    """How much longer a step of eight images takes with the goal than with the one beside it, as a share."""
    ascents, times = list[fv.Ascent](), ([], [])
    for objective in (goal, fv.parse(beside)):
        make, options = fv.AlphaImage if ALPHA in goal.layers else fv.FourierImage, fv.Runtime(compile=False)
        image = make(objective.n if objective.n > 1 else 8, SIZE)
        ascents.append(
            fv.Ascent(model, objective, image, transforms=fv.transform.robust(), steps=10**3, runtime=options)
        )
    for _ in range(ROUNDS):
        for ascent, own in zip(ascents, times, strict=True):
            start = time.process_time()
            for _ in range(2):
                ascent.step()
            own.append((time.process_time() - start) / len(ascent.image))
    with_it, without = (min(own[1:]) for own in times)
    return with_it / without - 1


def write_row(path: Path, groups: list[Tensor]) -> None:
    """Images side by side, with a wider gap between groups."""
    gap, wide = np.full((SIZE, 4, 3), 255, np.uint8), np.full((SIZE, 16, 3), 255, np.uint8)
    parts = list[np.ndarray]()
    for i, images in enumerate(groups):
        for k, image in enumerate(images):
            parts += [wide if k == 0 else gap] * (i + k > 0) + [to_bytes(image)]
    iio.imwrite(path, np.concatenate(parts, 1))


def to_bytes(image: Tensor) -> np.ndarray:
    """``[H,W,3]``."""
    return (255 * image.clamp(0, 1)).round().to(torch.uint8).movedim(0, -1).numpy()


def shorten(text: str) -> str:
    """The spec, without the middle of a long one."""
    return text if len(text) < 70 else f"{text[:45]} ... {text[-15:]}"


if __name__ == "__main__":
    main()
