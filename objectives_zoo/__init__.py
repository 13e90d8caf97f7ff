"""More objectives, written with the public names of featureviz only; ``featureviz zoo`` lists them.

A folder is a theory, a file is an idea. Each entry tells its mathematics, its source, the weight that it wants beside
other terms, and what it means on maps, on the tokens of a transformer and on vectors.
"""

from objectives_zoo.batch.alignment import Alignment as Alignment
from objectives_zoo.batch.diversity import Diversity as Diversity
from objectives_zoo.batch.interpolation import interpolation as interpolation
from objectives_zoo.directions.angled_neuron import AngledNeuron as AngledNeuron
from objectives_zoo.directions.angled_neuron import whitened as whitened
from objectives_zoo.directions.direction_neuron import DirectionNeuron as DirectionNeuron
from objectives_zoo.directions.rectified import RectifiedDirection as RectifiedDirection
from objectives_zoo.directions.tensor_direction import TensorDirection as TensorDirection
from objectives_zoo.gates.gate_mode import GateMode as GateMode
from objectives_zoo.gates.veto import veto as veto
from objectives_zoo.inversion.caricature import Caricature as Caricature
from objectives_zoo.inversion.deviation import Deviation as Deviation
from objectives_zoo.inversion.deviation import balance as balance
from objectives_zoo.inversion.feature_inversion import FeatureInversion as FeatureInversion
from objectives_zoo.inversion.paired import PairedObjective as PairedObjective
from objectives_zoo.priors.blur import blur_each_step as blur_each_step
from objectives_zoo.priors.boundary_complexity import boundary_complexity as boundary_complexity
from objectives_zoo.priors.input_diff import InputDiff as InputDiff
from objectives_zoo.priors.l1 import l1 as l1
from objectives_zoo.priors.l2 import l2 as l2
from objectives_zoo.priors.penalize_alpha import penalize_alpha as penalize_alpha
from objectives_zoo.priors.total_variation import total_variation as total_variation
from objectives_zoo.schedules.decay import Decay as Decay
from objectives_zoo.schedules.only_after import OnlyAfter as OnlyAfter
from objectives_zoo.style.gram_style import GramStyle as GramStyle
from objectives_zoo.style.mean_style import MeanStyle as MeanStyle
from objectives_zoo.style.sorted_features import SortedFeatures as SortedFeatures
from objectives_zoo.suppression.isolated import Isolated as Isolated
from objectives_zoo.suppression.isolated import natural_means as natural_means
from objectives_zoo.suppression.sparse_channel import sparse_channel as sparse_channel
from objectives_zoo.weights.channel_weights import ChannelWeights as ChannelWeights
from objectives_zoo.weights.local_group import LocalGroup as LocalGroup
from objectives_zoo.weights.neuron_weights import NeuronWeights as NeuronWeights

__all__ = [  # noqa: RUF022 - by folder
    "Alignment", "Diversity", "interpolation", "AngledNeuron", "whitened", "DirectionNeuron", "RectifiedDirection",
    "TensorDirection", "GateMode", "veto", "Caricature", "Deviation", "balance", "FeatureInversion", "PairedObjective",
    "blur_each_step", "boundary_complexity", "InputDiff", "l1", "l2", "penalize_alpha", "total_variation", "Decay",
    "OnlyAfter", "GramStyle", "MeanStyle", "SortedFeatures", "Isolated", "natural_means", "sparse_channel",
    "ChannelWeights", "LocalGroup", "NeuronWeights",
]  # fmt: skip
