"""What a trained network does with images: measured, so that a render can be held against it."""

from featureviz.lab.attribution.gradient_paths import Split as Split
from featureviz.lab.attribution.gradient_paths import difference as difference
from featureviz.lab.attribution.gradient_paths import split as split
from featureviz.lab.attribution.gradient_paths import splits as splits
from featureviz.lab.attribution.saliency import Integrated as Integrated
from featureviz.lab.attribution.saliency import grad_cam as grad_cam
from featureviz.lab.attribution.saliency import gradient as gradient
from featureviz.lab.attribution.saliency import integrated_gradients as integrated_gradients
from featureviz.lab.attribution.saliency import integrated_split as integrated_split
from featureviz.lab.attribution.saliency_sheet import saliency_sheet as saliency_sheet
from featureviz.lab.draw.colormap import heat as heat
from featureviz.lab.draw.colormap import labelled as labelled
from featureviz.lab.draw.colormap import overlay as overlay
from featureviz.lab.draw.colormap import save_picture as save_picture
from featureviz.lab.effects.ablation import Ablation as Ablation
from featureviz.lab.effects.ablation import ablate as ablate
from featureviz.lab.embedded_gates import natural_gates as natural_gates
from featureviz.lab.gates.modes import Modes as Modes
from featureviz.lab.gates.modes import modes as modes
from featureviz.lab.gates.reachability import Bounds as Bounds
from featureviz.lab.gates.reachability import Ellipsoid as Ellipsoid
from featureviz.lab.gates.reachability import bounds as bounds
from featureviz.lab.gates.reachability import excitation as excitation
from featureviz.lab.gates.weights import Effective as Effective
from featureviz.lab.gates.weights import GateWeights as GateWeights
from featureviz.lab.gates.weights import effective as effective
from featureviz.lab.gates.weights import gate_weights as gate_weights
from featureviz.lab.maps import GatedMaps as GatedMaps
from featureviz.lab.maps import activation_grid as activation_grid
from featureviz.lab.maps import channel_maps as channel_maps
from featureviz.lab.maps import gated_maps as gated_maps
from featureviz.lab.statistics.gate_statistics import GateStatistics as GateStatistics
from featureviz.lab.statistics.pictures import Batch as Batch
from featureviz.lab.statistics.pictures import Pictures as Pictures
from featureviz.lab.statistics.pictures import batches as batches
from featureviz.lab.statistics.pictures import read_picture as read_picture
from featureviz.lab.statistics.site_statistics import SiteStatistics as SiteStatistics

__all__ = [
    "Ablation", "Batch", "Bounds", "Effective", "Ellipsoid", "GateStatistics", "GateWeights", "GatedMaps",
    "Integrated", "Modes", "Pictures", "SiteStatistics", "Split", "ablate", "activation_grid", "batches", "bounds",
    "channel_maps", "difference", "effective", "excitation", "gate_weights", "gated_maps", "grad_cam", "gradient",
    "heat", "integrated_gradients", "integrated_split", "labelled", "modes", "overlay", "read_picture",
    "saliency_sheet", "save_picture", "split", "splits",
]  # fmt: skip
