"""Lucent's ``modelzoo``: ``inceptionv1``, and the names of layers."""

from __future__ import annotations

from featureviz.compat.lucid.modelzoo.vision_models import InceptionV1
from featureviz.models.weights import DEFAULT, Weights
from featureviz.network.model import TappedModel


def inceptionv1(pretrained: bool = True, weights: Weights = DEFAULT) -> TappedModel:
    """GoogLeNet of torchvision under Lucid's names; without ``pretrained`` its weights are random."""
    return InceptionV1(weights if pretrained else None).load_graphdef().tapped
