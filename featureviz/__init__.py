"""featureviz: what excites and what suppresses any unit of a vision network, squeeze-and-excitation gates included."""

from importlib.metadata import version as _version

from featureviz import lab as lab
from featureviz import nn as nn
from featureviz import transform as transform
from featureviz.activations import Activations as Activations
from featureviz.activations import Rows as Rows
from featureviz.ascent import Ascent as Ascent
from featureviz.ascent import adam as adam
from featureviz.errors import FeaturevizError as FeaturevizError
from featureviz.errors import NonFinite as NonFinite
from featureviz.evaluate import HeldOut as HeldOut
from featureviz.evaluate import evaluate as evaluate
from featureviz.fast import Landing as Landing
from featureviz.fast import fast as fast
from featureviz.gate_objectives import Content as Content
from featureviz.gate_objectives import GateContrast as GateContrast
from featureviz.gate_objectives import GatedChannel as GatedChannel
from featureviz.gate_objectives import GateValue as GateValue
from featureviz.gate_objectives import Hidden as Hidden
from featureviz.gate_objectives import Quadrant as Quadrant
from featureviz.gates import GateSite as GateSite
from featureviz.gates import gates as gates
from featureviz.gradients import redirected as redirected
from featureviz.image import FourierImage as FourierImage
from featureviz.image import Parameterization as Parameterization
from featureviz.image import PixelImage as PixelImage
from featureviz.interventions import detach as detach
from featureviz.interventions import freeze as freeze
from featureviz.interventions import hold as hold
from featureviz.interventions import scale as scale
from featureviz.interventions import shift as shift
from featureviz.interventions import swap as swap
from featureviz.model import TappedModel as TappedModel
from featureviz.model import layers as layers
from featureviz.model import wrap as wrap
from featureviz.models import load as load
from featureviz.objective import Objective as Objective
from featureviz.objective import PerImage as PerImage
from featureviz.objective import objective as objective
from featureviz.objective import sum as sum
from featureviz.objectives import Channel as Channel
from featureviz.objectives import DeepDream as DeepDream
from featureviz.objectives import Direction as Direction
from featureviz.objectives import Gate as Gate
from featureviz.objectives import Logit as Logit
from featureviz.objectives import Neuron as Neuron
from featureviz.render import render as render
from featureviz.rendering import Rendering as Rendering
from featureviz.rendering import read_recipe as read_recipe
from featureviz.rng import Rng as Rng
from featureviz.spec import parse as parse

__version__ = _version("featureviz")
__all__ = [
    "Activations", "Ascent", "Channel", "Content", "DeepDream", "Direction", "FeaturevizError", "FourierImage", "Gate",
    "GateContrast", "GateSite", "GateValue", "GatedChannel", "HeldOut", "Hidden", "Landing", "Logit", "Neuron",
    "NonFinite", "Objective", "Parameterization", "PerImage", "PixelImage", "Quadrant", "Rendering", "Rng",
    "Rows", "TappedModel", "adam", "detach", "evaluate", "fast", "freeze", "gates", "hold", "lab",
    "layers", "load", "nn", "objective", "parse", "read_recipe", "redirected", "render", "scale", "shift",
    "sum", "swap", "transform", "wrap",
]  # fmt: skip
