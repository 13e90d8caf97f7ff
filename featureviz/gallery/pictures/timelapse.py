"""A render as an animation: how its images change from noise to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from featureviz.checks import STEPS as MOST_STEPS
from featureviz.checks import finite, whole
from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_writable, show_path, write_bytes
from featureviz.gallery.pictures.animation import encode_animation, name_animation
from featureviz.image.base import height_width
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import Goal, as_objective, merge_per_image
from featureviz.rendering.entry import render
from featureviz.rendering.png import make_contact_sheet, over_white, to_pixels
from featureviz.rendering.presets import STEPS

FRAMES = 60  # steps that are asked for without ``every``; of the first ones several are the same
BYTES = 2**32  # of all frames of all images in memory


def timelapse(
    model: TappedModel, goal: Goal, path: PathLike, *, every: int | None = None, fps: float = 12,
    columns: int | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Render ``goal``, write its images during the ascent as an animation, and return the path.

    An image changes most in the first steps. So the frames are close to each other at first, and each later one is the
    same factor further on: after the steps 1, 2, ... 12, 13, 15, ... 117, 128 of 128.

    After Ctrl-C the steps up to then are written, and ``KeyboardInterrupt`` is raised.

    Args:
        model: the network.
        goal: an objective, a spec, or a list of either. Several images, such as ``fv.Channel("features.6", range(16))``
            for a timelapse of a layer, are shown in a grid.
        path: the file: .gif, .png (animated), .webp, or .mp4 (H.264), which needs ``pip install 'featureviz[video]'``.
        every: a frame after each so many steps, instead of the steps above.
        fps: frames in a second.
        columns: of the grid, which is nearly square by default.
        options: those of ``fv.render``, but for ``snapshots``.

    Raises:
        InvalidInput: the format is unknown, MP4 cannot be written here, or the frames need too much memory.

    >>> import featureviz as fv, tempfile
    >>> model = fv.load("embedded")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     timelapse(model, "features.6:3", f"{folder}/a.gif", steps=4, size=32, progress=False).name
    'a.gif'
    """
    target, goal = name_animation(path), _join(goal)
    fps, columns = finite("fps", fps, 0.1, 50), None if columns is None else whole("columns", columns, 1)
    if "snapshots" in options:
        raise InvalidInput("snapshots was given; a timelapse chooses them: give every=, or call fv.render")
    steps = whole("steps", options.get("steps", STEPS), 1, MOST_STEPS)
    wanted = choose_steps(steps, every)
    height, width = height_width(options.get("size", 128))
    needed = len(wanted) * goal.n * model.channels * height * width * 4
    if needed > BYTES:
        raise InvalidInput(
            f"{len(wanted)} frames of {goal.n} images need {needed / 1e9:.1f} GB; expected at most {BYTES / 1e9:.1f}:"
            " give fewer units, a smaller size, or a larger every="
        )
    check_writable(target.parent)
    made = render(model, goal, snapshots=wanted, **options)
    kept = [made.snapshots[step] for step in sorted(made.snapshots)]
    if made.interrupted:
        kept.append(made.images)
    frames = [_draw(over_white(images) if made.alpha else images, columns) for images in kept]
    write_bytes(target, encode_animation(frames, target.suffix, fps))
    if made.interrupted:
        raise KeyboardInterrupt(f"{show_path(target)} shows {len(made.scores)} of {steps} steps")
    return target


def choose_steps(steps: int, every: int | None = None) -> list[int]:
    """The steps after which there is a frame: from 0 to the last, each ``every`` steps, or by equal factors.

    >>> choose_steps(64, 20)
    [0, 20, 40, 60, 64]
    >>> choose_steps(1024)[:4], choose_steps(1024)[-4:]
    ([0, 1, 2, 3], [720, 810, 910, 1024])
    """
    if every is not None:
        return sorted({*range(0, steps, whole("every", every, 1)), steps})
    return sorted({0, *(round(steps ** (i / (FRAMES - 1))) for i in range(FRAMES))})


def _join(goal: Goal) -> Objective:
    """The goal as one objective; unlike those of ``fv.render``, entries of a list may be of several images."""
    goals = list(goal) if isinstance(goal, list | tuple) else [goal]
    if len(goals) < 2:
        return as_objective(goals[0] if goals else [])
    return merge_per_image([one.select([i]) for one in map(as_objective, goals) for i in range(one.n)])


def _draw(images: Tensor, columns: int | None) -> np.ndarray:
    """A frame ``[H,W,3]`` of all images."""
    pixels = to_pixels(make_contact_sheet(images, columns))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
