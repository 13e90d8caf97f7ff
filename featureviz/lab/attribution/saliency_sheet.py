"""What one score rests on, as a picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.lab.attribution.gradient_paths import Scored, seen, split
from featureviz.lab.attribution.saliency import (
    BLURRED,
    blurred,
    grad_cam,
    gradient,
    integrated_gradients,
    integrated_split,
    start_of,
)
from featureviz.lab.draw.colormap import DIVERGING, Bar, heat, labelled, limits, overlay
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.goals import Goal, as_objective

_PANEL, _SHARE = 224, 0.998  # pixels; of the values lies within the colours
_SMOOTH = 1 / 40  # of the height: single pixels of a gradient cannot be read


def saliency_sheet(
    model: TappedModel,
    objective: Goal,
    site: str | GateSite,
    image: Tensor,
    *,
    baseline: str = BLURRED,
    steps: int = 64,
) -> Tensor:
    """One image and one score, by every method, as one picture ``[3,H,W]``.

    Above: the image, the gradient, Grad-CAM at the block, and the baseline. Below: integrated gradients, and these
    split into what the block's content and what its gates bring
    (``integrated_split``): the three have one scale, and the last two add up to the first.
    So do the numbers above them, their sums, in units of the score. The share is of the gradient at the image
    (``gate_share``). Maps are summed over the colours, of the gradient the steepest is
    taken, and smoothed by a Gaussian of 1/40 of the height.

    Args:
        model: the network.
        objective: an objective or a spec, such as ``"logit:207"``.
        site: the gated block.
        image: one, ``[3,H,W]`` in [0,1].
        baseline: ``"blurred"``, ``"grey"`` or ``"black"``.
        steps: of the integrated gradients.

    Raises:
        InvalidInput: more than one image; as the methods.
        FeaturevizError: captum is not installed.
    """
    with torch.no_grad():
        x = seen(model, image)
        if len(x) > 1:
            raise InvalidInput(f"images of shape {list(image.shape)} were given; expected one, [3,H,W]")
        start, score = start_of(x, baseline), Scored(model, objective)
        before, after = float(score(start)), float(score(x))
    picture, cam = _enlarged(x.cpu())[0], grad_cam(model, objective, image, site)[0]
    steep = _drawn("gradient", gradient(model, objective, image), name="viridis")
    share = float(split(model, objective, image, site).gate_share)
    path = integrated_gradients(model, objective, image, baseline=baseline, steps=steps).maps
    parts = integrated_split(model, objective, image, site, baseline=baseline, steps=steps)
    three = (path, parts.content.sum(1), parts.gate.sum(1))
    total, content, gate = (float(part.sum()) for part in three)
    below, alone = _drawn("integrated gradients and their parts", *three), _drawn("the gates alone", three[2])
    panels = [
        (f"image: {after:.2f}", picture),
        ("gradient", steep.pictures[0]),
        (f"Grad-CAM at {parts.site}", overlay(picture, cam)),
        (f"baseline: {before:.2f}", _enlarged(start.cpu())[0]),
        (f"integrated gradients: {total:+.2f}", below.pictures[0]),
        (f"= through the content: {content:+.2f}", below.pictures[1]),
        (f"+ through the gates: {gate:+.2f}", below.pictures[2]),
        ("the gates in their own scale", alone.pictures[0]),
    ]
    title = f"{model.name}, {as_objective(objective)}; {parts.site}: gate share of the gradient {share:.2f}"
    return labelled(panels, 4, title=title, bars=[d.bar for d in (steep, below, alone)])


class _Drawn(NamedTuple):
    """Maps in colours, ``[3,H,W]`` each, and what the colours mean."""

    pictures: list[Tensor]
    bar: Bar


def _drawn(title: str, *maps: Tensor, name: str = DIVERGING) -> _Drawn:
    """Maps ``[1,h,w]`` in one scale of colours, which leaves out the most extreme 0.2 % of the first."""
    smooth = [blurred(plane[None], _SMOOTH)[0] for plane in maps]
    low, high = limits(smooth[0], None if name == DIVERGING else 0.0, name=name, share=_SHARE)
    return _Drawn([_enlarged(heat(plane, low, high, name))[0] for plane in smooth], Bar(title, low, high, name))


def _enlarged(pictures: Tensor) -> Tensor:
    """``[1,3,H,W]`` with a short side of at least 224 pixels, bilinearly."""
    factor = max(1.0, _PANEL / min(pictures.shape[2:]))
    return interpolate(pictures, [round(side * factor) for side in pictures.shape[2:]], mode="bilinear")
