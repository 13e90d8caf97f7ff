"""Transform robustness: what a feature must survive to be the network's and not the pixel grid's."""

from featureviz.transform.base import Pipeline as Pipeline
from featureviz.transform.base import Pixelwise as Pixelwise
from featureviz.transform.base import Transform as Transform
from featureviz.transform.base import Warp as Warp
from featureviz.transform.pixelwise import Noise as Noise
from featureviz.transform.warps import Flip as Flip
from featureviz.transform.warps import Jitter as Jitter
from featureviz.transform.warps import Rotate as Rotate
from featureviz.transform.warps import Scale as Scale

__all__ = ["Flip", "Jitter", "Noise", "Pipeline", "Pixelwise", "Rotate", "Scale", "Transform", "Warp", "robust"]


def robust() -> list[Transform]:
    """The default: Lucid's standard ranges, jitter 8, scale 0.9 to 1.1, rotate 10 degrees, jitter 4.

    Lucid pads with 12 px of grey first; here nothing needs padding, since the view is mirrored past the edges.
    """
    return [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4)]
