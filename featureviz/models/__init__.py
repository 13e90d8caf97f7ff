"""Networks by name: the embedded network, those of torchvision and of timm."""

from featureviz.models import embedded
from featureviz.models.loading import load

__all__ = ["embedded", "load"]
