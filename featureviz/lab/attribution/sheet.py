"""All methods of attribution for one image and one score, as one picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.lab.attribution.gradcam import grad_cam
from featureviz.lab.attribution.integrated import (
    BLURRED,
    blur,
    gradient,
    integrated_gradient_paths,
    integrated_gradients,
    make_baseline,
)  # fmt: skip
from featureviz.lab.attribution.paths import gradient_paths
from featureviz.lab.attribution.score_function import ScoreFunction
from featureviz.lab.draw.colors import DIVERGING, colormap, limits, overlay
from featureviz.lab.draw.sheet import ColorBar, draw_sheet
from featureviz.lab.inputs import fit_images
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.objectives.goals import Goal, as_objective

_PANEL, _SHARE = 224, 0.998  # pixels; the share of the values inside the colour scale
_SMOOTH = 1 / 40  # of the height: single pixels of a gradient cannot be seen


def saliency_sheet(
    model: TappedModel, objective: Goal, site: str | GateSite, image: Tensor, *, baseline: str = BLURRED,
    steps: int = 64,
) -> Tensor:  # fmt: skip
    """One image and one score, by every method, as one picture ``[3,H,W]``.

    The upper row shows the image, the gradient, Grad-CAM at the block, and the baseline. The lower row shows integrated
    gradients, their two parts through the block's content and through its gates (``integrated_gradient_paths``), and
    the last part again in its own colour scale. The parts add up to the first map, and so do the numbers above them,
    the sums of the maps in units of the score. The share in the title is ``gate_share`` at the image. Maps are summed
    over the colours (of the gradient: the maximum) and smoothed by a Gaussian of 1/40 of the height.

    ``image`` is ``[3,H,W]`` in [0,1]; arguments and errors are those of ``integrated_gradients`` and ``grad_cam``.
    """
    with torch.no_grad():
        x = fit_images(model, image)
        if len(x) > 1:
            raise InvalidInput(f"images of shape {list(image.shape)} were given; expected one, [3,H,W]")
        start, score = make_baseline(x, baseline), ScoreFunction(model, objective)
        before, after = float(score(start)), float(score(x))
    picture, cam = _enlarge(x.cpu())[0], grad_cam(model, objective, image, site)[0]
    (steep,), steep_bar = _colour("gradient", gradient(model, objective, image), name="viridis")
    share = float(gradient_paths(model, objective, image, site).gate_share)
    whole = integrated_gradients(model, objective, image, baseline=baseline, steps=steps).maps
    paths = integrated_gradient_paths(model, objective, image, site, baseline=baseline, steps=steps)
    maps = (whole, paths.content.sum(1), paths.gate.sum(1))
    total, content, gate = (float(values.sum()) for values in maps)
    lower, lower_bar = _colour("integrated gradients and their parts", *maps)
    (alone,), alone_bar = _colour("the gates alone", maps[2])
    panels = [
        (f"image: {after:.2f}", picture),
        ("gradient", steep),
        (f"Grad-CAM at {paths.site}", overlay(picture, cam)),
        (f"baseline: {before:.2f}", _enlarge(start.cpu())[0]),
        (f"integrated gradients: {total:+.2f}", lower[0]),
        (f"= through the content: {content:+.2f}", lower[1]),
        (f"+ through the gates: {gate:+.2f}", lower[2]),
        ("the gates in their own scale", alone),
    ]
    title = f"{model.name}, {as_objective(objective)}; {paths.site}: gate share of the gradient {share:.2f}"
    return draw_sheet(panels, 4, title=title, bars=[steep_bar, lower_bar, alone_bar])


def _colour(title: str, *maps: Tensor, name: str = DIVERGING) -> tuple[list[Tensor], ColorBar]:
    """Maps ``[1,h,w]`` as ``[3,H,W]``, and their colour bar, which leaves out the extreme 0.2 % of the first map."""
    smooth = [blur(values[None], _SMOOTH)[0] for values in maps]
    low, high = limits(smooth[0], None if name == DIVERGING else 0.0, name=name, share=_SHARE)
    pictures = [_enlarge(colormap(values, low, high, name))[0] for values in smooth]
    return pictures, ColorBar(title, low, high, name)


def _enlarge(pictures: Tensor) -> Tensor:
    """``[1,3,H,W]`` with a short side of at least 224 pixels, bilinearly."""
    factor = max(1.0, _PANEL / min(pictures.shape[2:]))
    return interpolate(pictures, [round(side * factor) for side in pictures.shape[2:]], mode="bilinear")
