"""featureviz renders what excites and what suppresses any unit of a vision network, and its gates."""

from importlib.metadata import version as _version

from featureviz import checks, gallery, lab, nn, transform
from featureviz.ascent.ascent import Ascent
from featureviz.ascent.optimizers import Adam, LinearCooldown, Scheduled
from featureviz.ascent.runtime import Runtime
from featureviz.errors import FeaturevizError, InvalidInput, NonFinite
from featureviz.gating.discovery import gates
from featureviz.gating.interventions import clamp, mean_ablate, resample, scale, shift, stop_gradient
from featureviz.image import (
    AlphaImage,
    BallImage,
    CPPNImage,
    FourierImage,
    GreyImage,
    MacoImage,
    MaskedImage,
    Parameterization,
    PixelImage,
    PyramidImage,
    SharedImage,
)
from featureviz.image.picture import check_pictures
from featureviz.models import load
from featureviz.models.variants import ensemble, linearised, noisy_weights, smoothed_pooling
from featureviz.models.wrapping import wrap
from featureviz.network.activations import Activations, Rows
from featureviz.network.copies.redirect import redirected
from featureviz.network.execution.executor import Executor
from featureviz.network.model import TappedModel, layers
from featureviz.network.site import GateSite
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.function import objective
from featureviz.objectives.gate_leaves import Bottleneck, Gate, GatedChannel, GateValue, PreGate
from featureviz.objectives.latents.encoders import Dictionary, dictionary, directions
from featureviz.objectives.latents.latent import Latent
from featureviz.objectives.leaves import Channel, DeepDream, Direction, Logit, Neuron
from featureviz.objectives.quadrant import GateContrast, Quadrant
from featureviz.objectives.spec import parse
from featureviz.objectives.text import registry as zoo
from featureviz.objectives.tokens import Head, Token
from featureviz.rendering.entry import render
from featureviz.rendering.held_out import HeldOut, evaluate
from featureviz.rendering.png import read_recipe
from featureviz.rendering.presets import clear, fast, maco, plain
from featureviz.rendering.rendering import Rendering
from featureviz.rendering.selection import best_of
from featureviz.rng import Rng

__version__ = _version("featureviz")
__all__ = [  # noqa: RUF022 - in the order of the README
    # what to look at: a model and its layers
    "load", "wrap", "layers", "gates", "TappedModel", "GateSite",
    # what to ask for: objectives and their algebra
    "Channel", "Neuron", "Token", "Head", "Direction", "Logit", "DeepDream", "Gate", "GateValue", "GateContrast",
    "GatedChannel", "PreGate", "Bottleneck", "Quadrant", "Objective", "PerImage", "objective", "parse", "zoo",
    "Dictionary", "Latent", "dictionary", "directions",
    # what moves: images and the views of them
    "FourierImage", "PixelImage", "PyramidImage", "CPPNImage", "MacoImage", "SharedImage", "GreyImage", "AlphaImage",
    "MaskedImage", "BallImage", "Parameterization", "check_pictures", "transform",
    # rendering
    "render", "best_of", "clear", "fast", "plain", "maco", "evaluate", "read_recipe", "Rendering", "HeldOut", "Adam",
    "LinearCooldown", "Scheduled", "Runtime",
    # what if: interventions and gradients
    "clamp", "scale", "shift", "mean_ablate", "resample", "stop_gradient", "redirected",
    "smoothed_pooling", "linearised", "noisy_weights", "ensemble",
    # galleries of whole networks, the laboratory, and layers for networks of one's own
    "gallery", "lab", "nn",
    # the engine, for loops of one's own
    "Activations", "Ascent", "Executor", "Rng", "Rows",
    # errors, and the checks of arguments that raise them
    "FeaturevizError", "InvalidInput", "NonFinite", "checks",
]  # fmt: skip
