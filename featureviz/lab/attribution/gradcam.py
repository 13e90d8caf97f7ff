"""Grad-CAM at a gated block, computed by captum: ``pip install 'featureviz[attribution]'``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.lab.attribution.integrated import import_captum
from featureviz.lab.attribution.score_function import ScoreFunction, enable_gradients
from featureviz.lab.inputs import fit_images
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import GATED, hide_from_modes
from featureviz.objectives.goals import Goal


@own_surroundings
def grad_cam(model: TappedModel, objective: Goal, images: Tensor, site: str | GateSite) -> Tensor:
    """Where a block's output raises a score: ``relu(sum_c w_c y_c)``, ``w_c = mean_hw ds/dy_c``; ``[N,h,w]``.

    y is the output ``[N,C,h',w']`` of the block ``site``. The map is enlarged bilinearly to the network's input size.
    Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization".

    Raises:
        InvalidInput: as ``gradient``; a block on which the score does not depend.
        FeaturevizError: captum is not installed.
    """
    method, gate_site = import_captum("LayerGradCam"), tapped(model).gates.resolve(site)
    with enable_gradients():
        score = ScoreFunction(model, objective)
        layer, shapes = _insert_layer(score, gate_site)

        def run(x: Tensor) -> Tensor:
            value = score(x)
            if not shapes:
                raise score.not_reached(gate_site.name)
            return value

        x = fit_images(model, images).requires_grad_()
        try:
            coarse = method(run, layer).attribute(x, relu_attributions=True)
        except RuntimeError as error:
            if "not have been used" not in str(error):  # torch's message if the score does not depend on the layer
                raise
            raise InvalidInput(
                f"{score.objective} does not depend on block {gate_site.name!r}; give a block on which it depends"
            ) from error
    return interpolate(coarse.detach().float(), x.shape[2:], mode="bilinear", antialias=True)[:, 0].cpu()


def _insert_layer(score: ScoreFunction, site: GateSite) -> tuple[nn.Module, list[torch.Size]]:
    """A layer for captum to hook, which gets the block's output as ``[M,C,H,W]``; and the shapes that it has got."""
    layer, shapes, tap = nn.Identity(), list[torch.Size](), score.model.tap(GATED + site.name)

    def pass_through(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        with hide_from_modes():
            maps = tap.reshape(output)
            if maps.ndim != 4:
                raise InvalidInput(f"block {site.name!r} gives {list(output.shape)}; Grad-CAM needs maps [M,C,H,W]")
            shapes.append(maps.shape)
            return layer(maps).movedim(1, tap.axis)

    score.running.net.get_submodule(tap.module).register_forward_hook(pass_through)
    return layer, shapes
