"""Networks by name: the embedded one, torchvision's, timm's."""

from featureviz.models import embedded as embedded
from featureviz.models.loading import load as load

__all__ = ["embedded", "load"]
