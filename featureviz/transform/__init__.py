"""Random transforms of the image, so that an optimised feature does not depend on single pixels."""

from featureviz.transform.base import Pixelwise, Transform, Warp
from featureviz.transform.filters import Blur, NormalizeGradient, Roll
from featureviz.transform.pipeline import Pipeline
from featureviz.transform.pixelwise import ColorJitter, Noise
from featureviz.transform.until import Until
from featureviz.transform.warps import Crop, Flip, Homography, Jitter, Rotate, Scale, robust

__all__ = [  # noqa: RUF022 - contracts first
    "Transform", "Warp", "Pixelwise", "Pipeline", "Blur", "ColorJitter", "Crop", "Flip", "Homography", "Jitter",
    "Noise", "NormalizeGradient", "Roll", "Rotate", "Scale", "Until", "robust",
]  # fmt: skip
