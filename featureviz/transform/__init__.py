"""Random transforms of the image, so that an optimised feature does not depend on single pixels."""

from featureviz.transform.base import Pixelwise as Pixelwise
from featureviz.transform.base import Transform as Transform
from featureviz.transform.base import Warp as Warp
from featureviz.transform.pipeline import Pipeline as Pipeline
from featureviz.transform.pixelwise import Noise as Noise
from featureviz.transform.warps import Flip as Flip
from featureviz.transform.warps import Jitter as Jitter
from featureviz.transform.warps import Rotate as Rotate
from featureviz.transform.warps import Scale as Scale
from featureviz.transform.warps import robust as robust

__all__ = ["Flip", "Jitter", "Noise", "Pipeline", "Pixelwise", "Rotate", "Scale", "Transform", "Warp", "robust"]
