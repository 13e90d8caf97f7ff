"""Random transforms of the image, so that an optimised feature does not depend on single pixels."""

from featureviz.transform.base import Pixelwise, Transform, Warp
from featureviz.transform.pipeline import Pipeline
from featureviz.transform.pixelwise import Noise
from featureviz.transform.until import Until
from featureviz.transform.warps import Flip, Jitter, Rotate, Scale, robust

__all__ = [  # noqa: RUF022 - contracts first
    "Transform", "Warp", "Pixelwise", "Pipeline", "Flip", "Jitter", "Noise", "Rotate", "Scale", "Until", "robust",
]  # fmt: skip
