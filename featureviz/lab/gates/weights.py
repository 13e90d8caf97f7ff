"""What drives a gate: the two layers of a squeeze-and-excitation block, and the Jacobian from squeeze to logits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from featureviz.checks import choice, holds_numbers, show, whole
from featureviz.errors import InvalidInput, ModelError
from featureviz.lab.draw.colors import DIVERGING, colormap, limits
from featureviz.lab.draw.sheet import COLOR_SHARE, ColorBar, draw_sheet, join_column, join_row
from featureviz.lab.gates.reachability import excitation, find_squeezed
from featureviz.lab.inputs import check_units
from featureviz.network.model import TappedModel
from featureviz.network.site import GateSite
from featureviz.network.surroundings import own_surroundings

_WIDTH, _BIAS_WIDTH = 560, 12  # pixels: the least width of a matrix, and the width of a bias


@final
@dataclass(frozen=True)
class GateWeights:
    """The two layers of a block: ``z = w2 act(w1 s + b1) + b2`` with the squeeze s ``[C]`` and the logits z ``[C]``.

    Batch normalisation after a layer is folded into its w and b. A missing bias is zero.
    """

    site: str
    fc1: str  # the path of the layer that reads the squeeze
    fc2: str  # the path of the layer that gives the logits
    w1: Tensor  # [r,C]: what each of the r bottleneck units reads
    b1: Tensor  # [r]
    w2: Tensor  # [C,r]: how each bottleneck unit changes each gate
    b2: Tensor  # [C]: the logits if no bottleneck unit is active

    def picture(self) -> Tensor:
        """Both layers as signed colour maps ``[3,H,W]``, a column for each channel and a row for each bottleneck unit.

        Units are ordered by ``|w1_k| |w2_k|``, the largest first. b1 is at the right of w1 and b2 is below w2. The
        colour scales leave out the largest 0.5 % of the magnitudes.
        """
        order = (self.w1.norm(dim=1) * self.w2.norm(dim=0)).argsort(descending=True)
        units, channels = self.w1.shape
        factor = -(-_WIDTH // channels)
        b1, b2 = (b.repeat_interleave(factor) for b in (self.b1[order], self.b2))
        scales = [_signed_limits(w) for w in (self.w1, self.w2, torch.cat([b1, b2]))]
        bias1 = colormap(b1[:, None].expand(-1, _BIAS_WIDTH), *scales[2], DIVERGING)
        bias2 = colormap(b2.expand(_BIAS_WIDTH, -1), *scales[2], DIVERGING)
        first = join_row([_draw_matrix(self.w1[order], factor, scales[0]), bias1])
        second = join_column(
            [
                _draw_matrix(self.w2.T[order], factor, scales[1]),
                torch.ones(3, 3, 1, dtype=torch.float32, device="cpu"),
                bias2,
            ]
        )
        reads = f"W1: what each of {units} bottleneck units (rows) reads of {channels} channels (columns); right, b1"
        moves = "W2: how each bottleneck unit (rows) changes the gate of each channel (columns); below, b2"
        bars = [ColorBar(t, *scale, DIVERGING) for t, scale in zip(("W1", "W2", "b1, b2"), scales, strict=True)]
        return draw_sheet([(reads, first), (moves, second)], 1, title=self.site, bars=bars)


@own_surroundings
def gate_weights(model: TappedModel, site: str) -> GateWeights:
    """The two layers of a squeeze-and-excitation block.

    Raises:
        ModelError: the block does not have exactly two fully connected layers (or 1 x 1 convolutions).

    >>> import featureviz as fv
    >>> weights = gate_weights(fv.load("embedded"), "features.9.block.2")
    >>> weights.w1.shape, weights.w2.shape
    (torch.Size([80, 320]), torch.Size([320, 80]))
    """
    gate_site = find_squeezed(model, site)
    folded: list[tuple[str, Tensor, Tensor]] = []
    linear = False  # whether the previous module is linear
    for name, module in _excitation_modules(model, gate_site):
        if linear and isinstance(module, _BatchNorm):
            folded[-1] = (folded[-1][0], *_fold(*folded[-1][1:], module))
        matrix = _matrix(module)
        linear = matrix is not None
        if matrix is not None:
            folded.append((name, *matrix))
    if len(folded) != 2:
        names = ", ".join(f"{name} {list(w.shape)}" for name, w, _ in folded) or "none"
        raise ModelError(
            f"gate {gate_site.name!r} ({gate_site.kind}) has {len(folded)} fully connected layers ({names}), not the"
            " two of a squeeze-and-excitation block; gate_jacobian() shows what drives its gates"
        )
    (fc1, w1, b1), (fc2, w2, b2) = folded
    return GateWeights(gate_site.name, fc1, fc2, w1, b1, w2, b2)


@final
@dataclass(frozen=True)
class GateJacobian:
    """How every squeeze channel changes every gate, at one squeeze."""

    site: str
    jacobian: Tensor  # [C,C]: row c and column i contain dz_c / ds_i with the logits z and the squeeze s
    squeeze: Tensor  # [C]: where it is taken
    sd: Tensor | None = None  # [C]: the standard deviation of each squeeze channel

    @property
    def strength(self) -> Tensor:
        """``[C,C]``: the Jacobian; with ``sd``, the change of logit c for one standard deviation of channel i."""
        return self.jacobian if self.sd is None else self.jacobian * self.sd

    def drivers(self, gate: int, k: int = 5) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """The ``k`` channels that open a gate most, and those that close it most, with their strengths."""
        gate, k = whole("gate", gate), whole("k", k, 1)
        check_units(self.site, [gate], len(self.jacobian))
        values, channels = self.strength[gate].sort(descending=True, stable=True)
        pairs = list(zip(channels.tolist(), values.tolist(), strict=True))
        return [p for p in pairs[:k] if p[1] > 0], [p for p in pairs[: -k - 1 : -1] if p[1] < 0]

    def picture(self, order: str = "modes") -> Tensor:
        """The strengths as a signed colour map ``[3,H,W]``: red opens the gate, blue closes it.

        ``order="modes"`` sorts gates and channels by the first pair of singular vectors, so that gates which open
        together are neighbours. The title gives that pair's share of the sum of squares. ``"natural"`` keeps the order
        of the numbers. The colour scale leaves out the largest 0.5 % of the magnitudes.
        """
        choice("order", order, ("modes", "natural"))
        matrix, count = self.strength, len(self.jacobian)
        own = int((self.jacobian.diagonal() > 0).sum())
        title, sorting = f"{self.site}: from squeeze to gates; {own} of {count} channels open their own", "as numbered"
        if order == "modes":
            u, s, vh = torch.linalg.svd(matrix)
            sign = u[:, 0].sum().sign()  # the sign that svd returns is arbitrary
            matrix = matrix[(sign * u[:, 0]).argsort(descending=True)][:, (sign * vh[0]).argsort(descending=True)]
            title += f"; first mode {100 * float(s[0] ** 2 / s.square().sum().clamp(min=1e-30)):.0f} %"
            sorting = "sorted by the first singular vectors"
        scale = _signed_limits(matrix)
        axes = f"gates (rows) by channels of the squeeze (columns), {sorting}"
        bar = ColorBar("dz / ds" if self.sd is None else "dz / ds, times the sd of s", *scale, DIVERGING)
        return draw_sheet([(axes, _draw_matrix(matrix, -(-_WIDTH // count), scale))], 1, title=title, bars=[bar])


@own_surroundings
def gate_jacobian(model: TappedModel, site: str, squeeze: Tensor, sd: Tensor | None = None) -> GateJacobian:
    """The exact Jacobian ``dz_c / ds_i`` of a block's logits with respect to its squeeze.

    ``squeeze`` is ``[C]``, such as ``squeeze_mean`` of natural statistics, and ``sd`` ``[C]`` the standard deviation of
    each channel, such as ``squeeze_sd``.

    Raises:
        ModelError: the block's logits are not a function of the squeeze alone, or the gate is spatial.

    >>> import featureviz as fv
    >>> gate_jacobian(fv.load("embedded"), "features.9.block.2", torch.rand(320)).jacobian.shape
    torch.Size([320, 320])
    """
    gate_site = find_squeezed(model, site)
    logits = excitation(model, gate_site)
    for what, given in (("squeeze", squeeze), ("sd", squeeze if sd is None else sd)):
        known = holds_numbers(given) and given.is_floating_point()
        if not known or given.shape != (gate_site.channels,) or not torch.isfinite(given).all():
            raise InvalidInput(
                f"a {what} {list(given.shape) if known else show(given)} was given; expected [{gate_site.channels}],"
                " finite numbers"
            )
    squeeze = squeeze.float().to(model.device)
    jacobian: Any = torch.func.jacrev(lambda s: logits(s[None])[0])(squeeze)
    return GateJacobian(
        gate_site.name, jacobian.detach().cpu(), squeeze.cpu(), None if sd is None else sd.float().cpu()
    )


def _signed_limits(values: Tensor) -> tuple[float, float]:
    return limits(values, name=DIVERGING, share=COLOR_SHARE)


def _draw_matrix(matrix: Tensor, factor: int, scale: tuple[float, float]) -> Tensor:
    return colormap(matrix.repeat_interleave(factor, 0).repeat_interleave(factor, 1), *scale, DIVERGING)


def _excitation_modules(model: TappedModel, site: GateSite) -> list[tuple[str, nn.Module]]:
    """The modules without children that run from fc1 up to the gate, in order."""
    modules: list[tuple[str, nn.Module]] = []

    def hook(name: str, module: nn.Module, _args: Any) -> None:
        if (modules or name == site.fc1) and not f"{name}.".startswith(f"{site.gate}."):
            modules.append((name, module))

    running = model.isolated()
    for name, module in running.net.named_modules():
        if name and not any(module.children()):
            module.register_forward_pre_hook(partial(hook, name))
    with torch.no_grad():
        running.read(model.noise_images(), {"z": site.logits})
    return modules


def _matrix(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Weight ``[out,in]`` and bias ``[out]`` of a linear layer or a 1 x 1 convolution; None for other modules."""
    if isinstance(module, nn.Linear):
        weight = module.weight
    elif isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == 1 and set(module.kernel_size) == {1}:
        weight = module.weight.flatten(1)
    else:
        return None
    weight = weight.detach().float().cpu()
    bias = torch.zeros_like(weight[:, 0]) if module.bias is None else module.bias.detach().float().cpu()
    return weight, bias


def _fold(weight: Tensor, bias: Tensor, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The weight and bias of a layer and the batch normalisation after it, in eval mode."""
    norm = copy.deepcopy(norm).float().cpu()
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError("a batch norm after a fully connected layer has no running statistics, so it cannot be folded")
    w, b = fuse_conv_bn_weights(weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    return w.detach(), b.detach()
