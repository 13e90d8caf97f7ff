"""Image parameterizations: the leaves that gradient ascent changes, and the decoder from leaves to pixels."""

from featureviz.image.base import Parameterization as Parameterization
from featureviz.image.fourier import FourierImage as FourierImage
from featureviz.image.pixel import PixelImage as PixelImage

__all__ = ["FourierImage", "Parameterization", "PixelImage"]
