"""Image parameterizations: the leaves that gradient ascent changes, and the decoder from leaves to pixels."""

from featureviz.image.base import Parameterization
from featureviz.image.fourier import FourierImage
from featureviz.image.pixel import PixelImage

__all__ = ["FourierImage", "Parameterization", "PixelImage"]
