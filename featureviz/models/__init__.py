"""Networks by name: the embedded network, those of torchvision and of timm."""

from featureviz.models import embedded as embedded
from featureviz.models.loading import load as load

__all__ = ["embedded", "load"]
