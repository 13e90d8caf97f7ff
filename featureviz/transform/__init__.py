"""Random transforms of the image, so that an optimised feature does not depend on single pixels."""

from featureviz.transform.base import Pixelwise, Transform, Warp
from featureviz.transform.pipeline import Pipeline
from featureviz.transform.pixelwise import Noise
from featureviz.transform.warps import Flip, Jitter, Rotate, Scale, robust

__all__ = ["Flip", "Jitter", "Noise", "Pipeline", "Pixelwise", "Rotate", "Scale", "Transform", "Warp", "robust"]
