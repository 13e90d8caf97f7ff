"""Image parameterizations: the leaves that gradient ascent changes, and the decoder from leaves to pixels."""

from featureviz.image.around.alpha import AlphaImage
from featureviz.image.around.ball import BallImage
from featureviz.image.around.grey import GreyImage
from featureviz.image.around.masked import MaskedImage
from featureviz.image.base import Parameterization
from featureviz.image.frequencies.fourier import FourierImage
from featureviz.image.frequencies.natural import MacoImage
from featureviz.image.pixels.cppn import CPPNImage
from featureviz.image.pixels.pixel import PixelImage
from featureviz.image.pixels.pyramid import PyramidImage
from featureviz.image.pixels.shared import SharedImage

__all__ = [
    "AlphaImage", "BallImage", "CPPNImage", "FourierImage", "GreyImage", "MacoImage", "MaskedImage", "Parameterization",
    "PixelImage", "PyramidImage", "SharedImage",
]  # fmt: skip
