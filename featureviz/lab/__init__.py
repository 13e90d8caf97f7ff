"""Measurements of what a trained network does with images, to compare renders with."""

from featureviz.image.picture import read_picture
from featureviz.lab.attribution.gradcam import grad_cam
from featureviz.lab.attribution.integrated import (
    IntegratedGradients,
    gradient,
    integrated_gradient_paths,
    integrated_gradients,
)  # fmt: skip
from featureviz.lab.attribution.paths import GradientPaths, gradient_path_profile, gradient_paths
from featureviz.lab.attribution.sheet import saliency_sheet
from featureviz.lab.draw.canvas import save_picture
from featureviz.lab.draw.channels import activation_grid, channel_maps
from featureviz.lab.draw.colors import colormap, overlay
from featureviz.lab.draw.sheet import draw_sheet
from featureviz.lab.effects.ablation import Ablation, GateAblator, ablate
from featureviz.lab.gates.co_gating_modes import Modes, modes
from featureviz.lab.gates.maps import GatedMaps, gated_maps
from featureviz.lab.gates.reachability import ReachableRange, SqueezeEllipsoid, excitation, reachable_range
from featureviz.lab.gates.weights import GateJacobian, GateWeights, gate_jacobian, gate_weights
from featureviz.lab.statistics.gate_statistics import GateStatistics, natural_gates
from featureviz.lab.statistics.likeness import natural_distance, path_scores
from featureviz.lab.statistics.measuring import OPEN, SHUT
from featureviz.lab.statistics.pictures import Batch, Pictures, batches
from featureviz.lab.statistics.site_statistics import SiteStatistics
from featureviz.lab.statistics.units.layer_statistics import LayerStatistics
from featureviz.lab.statistics.units.neighbours import Neighbour
from featureviz.lab.statistics.units.unit_statistics import UnitExample, UnitStatistics
from featureviz.lab.unit_weights import nearest_by_weight, weight_similarity

__all__ = [
    "OPEN", "SHUT", "Ablation", "Batch", "GateAblator", "GateJacobian", "GateStatistics", "GateWeights", "GatedMaps",
    "GradientPaths", "IntegratedGradients", "LayerStatistics", "Modes", "Neighbour", "Pictures", "ReachableRange",
    "SiteStatistics", "SqueezeEllipsoid", "UnitExample", "UnitStatistics", "ablate", "activation_grid", "batches",
    "channel_maps", "colormap", "draw_sheet", "excitation", "gate_jacobian", "gate_weights", "gated_maps", "grad_cam",
    "gradient", "gradient_path_profile", "gradient_paths", "integrated_gradient_paths", "integrated_gradients",
    "modes", "natural_distance", "natural_gates", "nearest_by_weight", "overlay", "path_scores", "reachable_range",
    "read_picture", "saliency_sheet", "save_picture", "weight_similarity",
]  # fmt: skip
