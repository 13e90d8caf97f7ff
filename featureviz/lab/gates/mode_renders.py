"""Renders against and along co-gating modes, judged on held-out views, and the pictures that show each mode most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.image.picture import read_picture
from featureviz.lab.gates.co_gating_modes import Modes
from featureviz.lab.statistics.gate_statistics import GateStatistics
from featureviz.lab.statistics.pictures import Pictures
from featureviz.network.model import TappedModel
from featureviz.network.taps import GATE
from featureviz.rendering.entry import render
from featureviz.rng import HELD_OUT, Rng
from featureviz.transform import Pipeline, robust

VIEWS, PICTURES, TOP_GATES = 16, 3, 5


class ModeEnd(NamedTuple):
    """One end of a mode: how pure its render is, the pictures furthest along it, and the gates that it opens most."""

    amount: float  # how far the render is from the natural mean, in natural standard deviations
    cosine: float  # with the mode
    other: float  # the largest absolute cosine with another mode
    pictures: list[str]
    opens: list[int]


@final
@dataclass(frozen=True)
class ModeRenders:
    """Both ends of every mode, against it and along it, with their renders and their pictures."""

    ends: list[tuple[ModeEnd, ModeEnd]]
    images: Tensor  # the renders [2,k,3,H,W]
    photographs: list[Tensor]  # for each mode [2P,3,h,h]: the P pictures furthest against it, then along it


def render_modes(
    model: TappedModel, modes: Modes, natural: GateStatistics, folder: str, *, power: float = 4, steps: int, size: int,
    photograph_size: int = 128,
) -> ModeRenders:  # fmt: skip
    """Render each mode against and along its direction, and find the pictures that show it most.

    ``folder`` must contain the pictures that were measured for ``natural``. ``power`` is that of ``Modes.objective``,
    which keeps a render on its mode. Sizes are in pixels.
    """
    names, photographs = _find_pictures(modes, natural, folder, photograph_size)
    goals = [modes.objective(i, sign, power=power) for sign in (-1, 1) for i in range(len(modes))]
    images = render(model, goals, steps=steps, size=size, image_ids=[0] * len(goals)).completed().images
    against, along = held_out_logits(model, modes.site, images).unflatten(0, (2, -1))
    ends = []
    for i, row in enumerate(names):
        half = len(row) // 2
        minus = _describe_end(modes, i, -1, against[i], row[:half])
        plus = _describe_end(modes, i, 1, along[i], row[half:])
        ends.append((minus, plus))
    return ModeRenders(ends, images.unflatten(0, (2, -1)), photographs)


def held_out_logits(model: TappedModel, site: str, images: Tensor) -> Tensor:
    """The block's logits for images ``[N,3,H,W]``, means over 16 views that no ascent has used: ``[N,C]``.

    The views are those of image number 0 for each, so that a result does not depend on the batch.
    """
    size = model.input_size((images.shape[-2], images.shape[-1]))
    layer, means = GATE + site, []
    for image in images:
        rng = Rng(0, 1, VIEWS, model.device, step=HELD_OUT)
        with torch.no_grad():
            views = Pipeline(robust()).to(model.device)(image[None].to(model.device), rng, size)
            means.append(model(views, [layer])[layer].float().mean(0).cpu())
    return torch.stack(means)


def _find_pictures(
    modes: Modes, natural: GateStatistics, folder: str, size: int
) -> tuple[list[list[str]], list[Tensor]]:
    """For each mode the pictures furthest against it, then along it: their names, and the pictures ``[2P,3,h,h]``."""
    pictures = Pictures(folder, size)
    paths = dict(zip(pictures.names, pictures.paths, strict=True))
    order = modes.amounts(natural[modes.site].logit_sample).argsort(dim=0, stable=True)  # [R,k]
    numbers = natural.sample[torch.cat([order[:PICTURES], order.flip(0)[:PICTURES]])].T.tolist()
    names = [[natural.names.get(n, str(n)) for n in row] for row in numbers]
    missing = [name for row in names for name in row if name not in paths]
    if missing:
        raise InvalidInput(
            f"{folder} has no {missing[0]!r}, which was among the pictures measured; give the folder that was measured"
        )
    return names, [torch.stack([read_picture(paths[name], pictures.size) for name in row]) for row in names]


def _describe_end(modes: Modes, mode: int, sign: int, logits: Tensor, names: list[str]) -> ModeEnd:
    cosines, amounts = modes.cosines(logits[None])[0], modes.amounts(logits[None])[0]
    others = torch.cat([cosines[:mode], cosines[mode + 1 :]]).abs().tolist()
    weights, units = (sign * modes.vectors[mode]).topk(min(TOP_GATES, len(logits)))
    amount, cosine = float(sign * amounts[mode]), float(sign * cosines[mode])
    return ModeEnd(amount, cosine, max(others, default=0.0), names, units[weights > 0].tolist())
