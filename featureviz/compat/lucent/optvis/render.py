"""Lucent's ``render_vis``: for any ``nn.Module``, which stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from featureviz.compat.lucent.modelzoo.util import import_model
from featureviz.compat.lucid.optvis.render import render_vis as lucids_render_vis
from featureviz.errors import InvalidInput
from featureviz.image import Parameterization

__all__ = ["import_model", "render_vis"]


def render_vis(
    model: Any,
    objective_f: Any,
    param_f: Callable[[], Parameterization] | None = None,
    optimizer: Any = None,
    transforms: Iterable[Any] | None = None,
    thresholds: Iterable[int] = (512,),
    verbose: bool = False,
    preprocess: bool = True,
    progress: bool = True,
    show_image: bool = False,
    save_image: bool = False,
    fixed_image_size: int | None = None,
) -> list[np.ndarray[Any, Any]]:
    """As Lucid's ``render_vis``. Layers are named by their paths, joined by ``_``; ``a.b`` is understood too.

    ``show_image``, ``save_image`` and ``fixed_image_size`` must be False, False and None: ``misc.io.show`` and ``save``
    take what is returned, and views have the size of the image, or that of the network.
    """
    if show_image or save_image or fixed_image_size is not None:
        raise InvalidInput(
            "show_image, save_image or fixed_image_size was given; expected False, False and None: use show and save of"
            " featureviz.compat.lucid.misc.io, and fv.wrap(net, size=...)"
        )
    tapped = import_model(model, preprocess=preprocess)
    return lucids_render_vis(
        tapped, objective_f, param_f, optimizer, transforms, thresholds, verbose=progress or verbose
    )
