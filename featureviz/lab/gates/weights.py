"""What drives a gate: the two layers of a squeeze-and-excitation block, and the effective path through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from featureviz.errors import InvalidInput, ModelError
from featureviz.lab.draw.colormap import DIVERGING, Bar, below, beside, heat, labelled, limits
from featureviz.lab.gates.reachability import excitation
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite

_WIDE, _THICK = 560, 12  # pixels: the least width of a matrix, and of its bias
_SHARE = 0.995  # of the entries lies within a colour scale


@final
@dataclass(frozen=True)
class GateWeights:
    """The two layers of a block: ``z = w2 act(w1 s + b1) + b2``, s the squeeze ``[C]``, z the logits ``[C]``.

    Attributes:
        site: the block's name.
        fc1: the path of the layer that reads the squeeze.
        fc2: the path of the layer that gives the logits.
        w1: ``[r,C]``: what each of the r hidden units reads.
        b1: ``[r]``.
        w2: ``[C,r]``: how each hidden unit moves each gate.
        b2: ``[C]``: the logits when no hidden unit is active.

    Batch normalisation behind a layer is part of its w and b; a missing bias is zero.
    """

    site: str
    fc1: str
    fc2: str
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def picture(self) -> Tensor:
        """Both layers as signed heat maps ``[3,H,W]``, one channel a column and one hidden unit a row.

        Strong units, by ``|w1_k| |w2_k|``, come first. Beside w1 stands b1, under w2 stands b2. The colours reach to
        all but the largest 0.5 % of the magnitudes.
        """
        order = (self.w1.norm(dim=1) * self.w2.norm(dim=0)).argsort(descending=True)
        units, channels = self.w1.shape
        factor = -(-_WIDE // channels)
        b1, b2 = (b.repeat_interleave(factor) for b in (self.b1[order], self.b2))
        one, two, both = (_signed(w) for w in (self.w1, self.w2, torch.cat([b1, b2])))
        first = beside([_large(self.w1[order], factor, one), heat(b1[:, None].expand(-1, _THICK), *both, DIVERGING)])
        second = [
            _large(self.w2.T[order], factor, two),
            torch.ones(3, 3, 1),
            heat(b2.expand(_THICK, -1), *both, DIVERGING),
        ]
        reads = (
            f"W1: what each of the {units} hidden units (rows) reads of the {channels} channels (columns); right, b1"
        )
        moves = "W2: how each hidden unit (rows) moves the gate of each channel (columns); below, b2"
        bars = [Bar("W1", *one, DIVERGING), Bar("W2", *two, DIVERGING), Bar("b1, b2", *both, DIVERGING)]
        return labelled([(reads, first), (moves, below(second))], 1, title=self.site, bars=bars)


def gate_weights(model: TappedModel, site: str) -> GateWeights:
    """The two layers of a squeeze-and-excitation block, from its own weights.

    Raises:
        UnknownName: no such site.
        ModelError: a block that is not made of two fully connected layers (or convolutions of one position).

    >>> import featureviz as fv
    >>> weights = gate_weights(fv.load("embedded"), "features.9.block.2")
    >>> weights.w1.shape, weights.w2.shape
    (torch.Size([80, 320]), torch.Size([320, 80]))
    """
    found = tapped(model).gates[site]
    folded: list[tuple[str, Tensor, Tensor]] = []
    linear = False  # whether the module before this one is
    for name, module in _chain(model, found):
        if linear and isinstance(module, _BatchNorm):
            folded[-1] = (folded[-1][0], *_fold(*folded[-1][1:], module))
        matrix = _matrix(module)
        linear = matrix is not None
        if matrix is not None:
            folded.append((name, *matrix))
    if len(folded) != 2:
        names = ", ".join(f"{name} {list(w.shape)}" for name, w, _ in folded) or "none"
        raise ModelError(
            f"gate {site!r} ({found.kind}) has {len(folded)} fully connected layers ({names}), not the two of a"
            " squeeze-and-excitation block; effective() shows what drives its gates"
        )
    (fc1, w1, b1), (fc2, w2, b2) = folded
    return GateWeights(site, fc1, fc2, w1, b1, w2, b2)


@final
@dataclass(frozen=True)
class Effective:
    """The effective path from every squeeze channel to every gate, at one squeeze.

    Attributes:
        site: the block's name.
        jacobian: ``[C,C]``; row c and column i hold ``dz_c / ds_i``, z the logits and s the squeeze.
        squeeze: ``[C]``, where it was taken.
        sd: ``[C]``, how far each squeeze channel varies, or None.
    """

    site: str
    jacobian: Tensor
    squeeze: Tensor
    sd: Tensor | None = None

    @property
    def strength(self) -> Tensor:
        """``[C,C]``: the Jacobian, or with ``sd`` what one standard deviation of channel i does to logit c."""
        return self.jacobian if self.sd is None else self.jacobian * self.sd

    def drivers(self, gate: int, k: int = 5) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """The at most ``k`` channels that open a gate most, and those that close it most, with their strengths.

        Raises:
            InvalidInput: a gate that is not there, or k below 1.
        """
        count = len(self.jacobian)
        if not 0 <= gate < count or k < 1:
            raise InvalidInput(f"gate={gate} and k={k} were given; expected 0 to {count - 1} and at least 1")
        values, channels = self.strength[gate].sort(descending=True, stable=True)
        pairs = list(zip(channels.tolist(), values.tolist(), strict=True))
        return [p for p in pairs[:k] if p[1] > 0], [p for p in pairs[: -k - 1 : -1] if p[1] < 0]

    def picture(self, order: str = "modes") -> Tensor:
        """The strengths as a signed heat map ``[3,H,W]``: red opens the gate, blue closes it.

        ``order="modes"`` sorts gates and channels by the first pair of singular vectors, so that gates which open
        together lie together, and says what share of the sum of squares that pair makes; ``"natural"`` leaves them
        as they are numbered. The colours reach to all but the largest 0.5 % of the magnitudes.
        """
        if order not in ("modes", "natural"):
            raise InvalidInput(f"order={order!r} was given; expected 'modes' or 'natural'")
        matrix, count = self.strength, len(self.jacobian)
        own = int((self.jacobian.diagonal() > 0).sum())
        title, said = f"{self.site}: from squeeze to gates; {own} of {count} channels open their own", "as numbered"
        if order == "modes":
            u, s, vh = torch.linalg.svd(matrix)
            sign = u[:, 0].sum().sign()  # which of the two signs svd gives is chance
            matrix = matrix[(sign * u[:, 0]).argsort(descending=True)][:, (sign * vh[0]).argsort(descending=True)]
            title += f"; first mode {100 * float(s[0] ** 2 / s.square().sum().clamp(min=1e-30)):.0f} %"
            said = "sorted by the first singular vectors"
        scale = _signed(matrix)
        axes = f"gates (rows) by channels of the squeeze (columns), {said}"
        unit = "dz / ds" if self.sd is None else "dz / ds, times the sd of s"
        bar = Bar(unit, *scale, DIVERGING)
        return labelled([(axes, _large(matrix, -(-_WIDE // count), scale))], 1, title=title, bars=[bar])


def effective(model: TappedModel, site: str, squeeze: Tensor, sd: Tensor | None = None) -> Effective:
    """How each squeeze channel moves each gate: the exact Jacobian ``dz_c / ds_i`` at a squeeze.

    Args:
        model: any network with gates.
        site: a gated block.
        squeeze: ``[C]``, as the ``squeeze_mean`` of natural statistics; or ``[N,C]``, as ``squeezes`` measures:
            their mean is taken, and of two or more the standard deviation, where ``sd`` is left out.
        sd: ``[C]``, how far each channel varies on natural images: their ``squeeze_sd``.

    Raises:
        UnknownName: no such site.
        InvalidInput: a squeeze or sd of another shape.
        ModelError: a block whose logits are no function of the squeeze alone, or a spatial gate.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> seen = squeezes(model, "features.9.block.2", torch.rand(4, 3, 96, 96))
    >>> effective(model, "features.9.block.2", seen).jacobian.shape
    torch.Size([320, 320])
    """
    found = tapped(model).gates[site]
    logits = excitation(model, found)
    squeeze = squeeze[None] if squeeze.ndim == 1 else squeeze
    for what, given in (("squeeze", squeeze), ("sd", sd)):
        if given is not None and (
            given.shape[-1] != found.channels or given.ndim > 2 or not torch.isfinite(given).all()
        ):
            raise InvalidInput(f"a {what} {list(given.shape)} was given; expected [{found.channels}], finite numbers")
    if sd is None and len(squeeze) > 1:
        sd = squeeze.std(0)
    at = squeeze.float().mean(0).to(model.device)
    jacobian: Any = torch.func.jacrev(lambda s: logits(s[None])[0])(at)
    return Effective(site, jacobian.detach().cpu(), at.cpu(), None if sd is None else sd.float().cpu())


def squeezes(model: TappedModel, site: str, images: Tensor) -> Tensor:
    """The squeeze ``mean_hw x`` of a block for images ``[N,3,H,W]`` in [0,1]: ``[N,C]``.

    >>> import featureviz as fv
    >>> squeezes(fv.load("embedded"), "features.9.block.2", torch.rand(2, 3, 96, 96)).shape
    torch.Size([2, 320])
    """
    found = tapped(model).gates[site]
    with torch.no_grad():
        layer = f"pregate:{site}"
        return found.squeezed(model(images.to(model.device), [layer])[layer]).float().cpu()


def _signed(values: Tensor) -> tuple[float, float]:
    return limits(values, name=DIVERGING, share=_SHARE)


def _large(matrix: Tensor, factor: int, scale: tuple[float, float]) -> Tensor:
    return heat(matrix.repeat_interleave(factor, 0).repeat_interleave(factor, 1), *scale, DIVERGING)


def _chain(model: TappedModel, site: GateSite) -> list[tuple[str, nn.Module]]:
    """The innermost modules that run from fc1 up to the gate, in order."""
    if not site.fc1:
        raise ModelError(
            f"gate {site.name!r} ({site.kind}) has no layer that reads the mean of the map and nothing else, so it"
            " has no two layers between a squeeze and its logits"
        )
    ran: list[tuple[str, nn.Module]] = []

    def note(name: str, module: nn.Module, _args: Any) -> None:
        if (ran or name == site.fc1) and not f"{name}.".startswith(f"{site.gate}."):
            ran.append((name, module))

    running = model.isolated()
    for name, module in running.net.named_modules():
        if name and not any(module.children()):
            module.register_forward_pre_hook(partial(note, name))
    with torch.no_grad():
        running.read(model.noise_images(), {"z": site.logits})
    return ran


def _matrix(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Weight ``[out,in]`` and bias ``[out]`` of a layer that mixes channels at one position; else None."""
    if isinstance(module, nn.Linear):
        weight = module.weight
    elif isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == 1 and set(module.kernel_size) == {1}:
        weight = module.weight.flatten(1)
    else:
        return None
    weight = weight.detach().float().cpu()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().float().cpu()
    return weight, bias


def _fold(weight: Tensor, bias: Tensor, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """A layer and the batch normalisation behind it, in eval mode, as one layer."""
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError("a batch norm behind a fully connected layer keeps no running statistics to fold into it")
    mean, variance = norm.running_mean.detach().float().cpu(), norm.running_var.detach().float().cpu()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().float().cpu()
    shift = 0 if norm.bias is None else norm.bias.detach().float().cpu()
    return weight * scale[:, None], (bias - mean) * scale + shift
