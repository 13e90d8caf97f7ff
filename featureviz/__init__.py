"""featureviz renders what excites and what suppresses any unit of a vision network, and its gates."""

from importlib.metadata import version as _version

from featureviz import lab as lab
from featureviz import nn as nn
from featureviz import transform as transform
from featureviz.ascent.ascent import Ascent as Ascent
from featureviz.ascent.optimizers import Adam as Adam
from featureviz.ascent.optimizers import LinearCooldown as LinearCooldown
from featureviz.ascent.optimizers import Scheduled as Scheduled
from featureviz.ascent.runtime import Runtime as Runtime
from featureviz.errors import FeaturevizError as FeaturevizError
from featureviz.errors import NonFinite as NonFinite
from featureviz.gating.discovery import gates as gates
from featureviz.gating.interventions import clamp as clamp
from featureviz.gating.interventions import mean_ablate as mean_ablate
from featureviz.gating.interventions import resample as resample
from featureviz.gating.interventions import scale as scale
from featureviz.gating.interventions import shift as shift
from featureviz.gating.interventions import stop_gradient as stop_gradient
from featureviz.image import FourierImage as FourierImage
from featureviz.image import Parameterization as Parameterization
from featureviz.image import PixelImage as PixelImage
from featureviz.models import load as load
from featureviz.models.wrapping import wrap as wrap
from featureviz.network.activations import Activations as Activations
from featureviz.network.activations import Rows as Rows
from featureviz.network.execution.executor import Executor as Executor
from featureviz.network.model import TappedModel as TappedModel
from featureviz.network.model import layers as layers
from featureviz.network.redirect import redirected as redirected
from featureviz.network.site import GateSite as GateSite
from featureviz.objectives.algebra import Objective as Objective
from featureviz.objectives.algebra import PerImage as PerImage
from featureviz.objectives.algebra import sum as sum
from featureviz.objectives.function import objective as objective
from featureviz.objectives.gate_leaves import Bottleneck as Bottleneck
from featureviz.objectives.gate_leaves import Gate as Gate
from featureviz.objectives.gate_leaves import GatedChannel as GatedChannel
from featureviz.objectives.gate_leaves import GateValue as GateValue
from featureviz.objectives.gate_leaves import PreGate as PreGate
from featureviz.objectives.leaves import Channel as Channel
from featureviz.objectives.leaves import DeepDream as DeepDream
from featureviz.objectives.leaves import Direction as Direction
from featureviz.objectives.leaves import Logit as Logit
from featureviz.objectives.leaves import Neuron as Neuron
from featureviz.objectives.quadrant import GateContrast as GateContrast
from featureviz.objectives.quadrant import Quadrant as Quadrant
from featureviz.objectives.spec import parse as parse
from featureviz.rendering.entry import render as render
from featureviz.rendering.held_out import HeldOut as HeldOut
from featureviz.rendering.held_out import evaluate as evaluate
from featureviz.rendering.png import read_recipe as read_recipe
from featureviz.rendering.presets import fast as fast
from featureviz.rendering.rendering import Rendering as Rendering
from featureviz.rendering.selection import best_of as best_of
from featureviz.rng import Rng as Rng

__version__ = _version("featureviz")
__all__ = [  # noqa: RUF022 - in the order of the README
    # what to look at: a model and its layers
    "load", "wrap", "layers", "gates", "TappedModel", "GateSite",
    # what to ask for: objectives and their algebra
    "Channel", "Neuron", "Direction", "Logit", "DeepDream", "Gate", "GateValue", "GateContrast", "GatedChannel",
    "PreGate", "Bottleneck", "Quadrant", "Objective", "PerImage", "objective", "parse", "sum",
    # what moves: images and the views of them
    "FourierImage", "PixelImage", "Parameterization", "transform",
    # rendering
    "render", "best_of", "fast", "evaluate", "read_recipe", "Rendering", "HeldOut", "Adam", "LinearCooldown",
    "Scheduled", "Runtime",
    # what if: interventions and gradients
    "clamp", "scale", "shift", "mean_ablate", "resample", "stop_gradient", "redirected",
    # the laboratory, and layers for networks of one's own
    "lab", "nn",
    # the engine, for loops of one's own
    "Activations", "Ascent", "Executor", "Rng", "Rows",
    # errors
    "FeaturevizError", "NonFinite",
]  # fmt: skip
