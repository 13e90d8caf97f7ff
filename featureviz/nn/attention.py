"""Attention by gates on channels, on positions, and on both. Every gate is ``y = x * gate(z)``."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import flag, show, whole
from featureviz.errors import InvalidInput

WIDEST = 2**14  # channels, whose layers then have a gigabyte of weights each


class _ChannelGate(nn.Module):
    """The layers of a channel gate, a bottleneck between two linear layers and a sigmoid: abstract."""

    def __init__(self, in_channels: int, reduction: int = 16, *, bias: bool = True) -> None:
        super().__init__()
        self.in_channels = in_channels = whole("in_channels", in_channels, 1, WIDEST)
        self.reduction = reduction = whole("reduction", reduction, 1)
        units, bias = max(1, in_channels // reduction), flag("bias", bias)
        self.fc1 = nn.Linear(in_channels, units, bias=bias)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(units, in_channels, bias=bias)
        self.gate = nn.Sigmoid()


@final
class SEModule(_ChannelGate):
    """Squeeze-and-excitation: one weight in (0,1) for each channel, computed from the averages of all channels.

    ``s = mean(x)`` over the spatial dimensions, ``z = W2 relu(W1 s + b1) + b2``, ``y = x * sigmoid(z)``.
    ``[N,C,*spatial]`` to the same shape, with any number of spatial dimensions; without any, ``s = x``. The logits z
    ``[N,C]`` are the input of ``gate``.

    Source: Hu, Shen and Sun 2018, "Squeeze-and-Excitation Networks".

    Args:
        in_channels: C.
        reduction: the bottleneck has ``max(1, C // reduction)`` units.
        bias: whether the two fully connected layers have biases.

    Raises:
        InvalidInput: a size that is no integer of at least 1; in a call, an input that is not ``[N,C,*spatial]``.

    Three channels with averages 2, 0.5 and 1, and a bottleneck of one unit:

    >>> block = SEModule(3, reduction=3, bias=False)
    >>> w1, w2 = torch.tensor([[0.2, 0.4, 0.1]]), torch.tensor([[0.5], [1.0], [-0.5]])
    >>> block.fc1.weight, block.fc2.weight = nn.Parameter(w1), nn.Parameter(w2)
    >>> x = torch.tensor([2.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    >>> y = block(x)
    >>> [round(v, 3) for v in (y / x)[0, :, 0, 0].tolist()]  # the gates
    [0.587, 0.668, 0.413]
    >>> [round(v, 2) for v in y.mean((2, 3))[0].tolist()]  # the averages after them
    [1.17, 0.33, 0.41]
    """

    def forward(self, x: Tensor) -> Tensor:
        squeezed = _flatten_positions(x, self.in_channels, "SEModule").mean(2)
        return x * _expand(self.gate(self.fc2(self.relu(self.fc1(squeezed)))), x)


@final
class ChannelAttention(_ChannelGate):
    """CBAM's channel attention: squeeze-and-excitation from averages and maxima.

    ``z = mlp(mean(x)) + mlp(max(x))`` over the spatial dimensions, with the same mlp; ``y = x * sigmoid(z)``.
    ``[N,C,*spatial]`` to the same shape. The mlp gets mean and maximum stacked as ``[N,2,C]``, so that each of its
    layers runs once.

    Source: Woo et al. 2018, "CBAM: Convolutional Block Attention Module", equation 2.

    Arguments and errors are those of ``SEModule``. The equation has no biases, the authors' code has.

    >>> ChannelAttention(32)(torch.randn(2, 32, 8, 8)).shape
    torch.Size([2, 32, 8, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        positions = _flatten_positions(x, self.in_channels, "ChannelAttention")
        pooled = torch.stack([positions.mean(2), positions.amax(2)], 1)
        logits = self.fc2(self.relu(self.fc1(pooled))).sum(1)
        return x * _expand(self.gate(logits), x)


@final
class SpatialAttention(nn.Module):
    """CBAM's spatial attention: one weight in (0,1) for each position, the same for all channels.

    ``z = conv([mean(x), max(x)])`` over the channels, ``y = x * sigmoid(z)``; ``[N,C,H,W]`` to the same shape, for any
    C, H and W. The logits z are ``[N,1,H,W]``; the borders are padded with zeros.

    Source: Woo et al. 2018, equation 3. The authors' code has batch normalisation after the convolution, the equation
    has none.

    Args:
        kernel_size: of the convolution, odd and at least 3; in the paper 7 is better than 3.

    Raises:
        InvalidInput: another kernel size; in a call, an input that is not ``[N,C,H,W]``.

    >>> SpatialAttention()(torch.randn(2, 5, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        kernel_size = whole("kernel_size", kernel_size, 1, WIDEST)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise InvalidInput(
                f"kernel_size={kernel_size} was given; expected an odd number of at least 3, so that a position sees"
                " its neighbours and the map keeps its size; 7 is the paper's choice"
            )
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        _check_tensor(x, "SpatialAttention")
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise InvalidInput(
                f"an input of shape {list(x.shape)} was given to SpatialAttention; expected [N,C,H,W], none of C, H and"
                " W zero; for one image without a batch dimension give x[None]"
            )
        pooled = torch.stack([x.mean(1), x.amax(1)], 1)
        return x * self.gate(self.conv(pooled))


@final
class CBAM(nn.Module):
    """Convolutional block attention module: channel attention, then spatial attention.

    ``y = spatial(channel(x))`` with a ``ChannelAttention`` and a ``SpatialAttention``; ``[N,C,H,W]`` to the same shape.

    Source: Woo et al. 2018, "CBAM: Convolutional Block Attention Module", equation 1.

    Arguments and errors are those of ``ChannelAttention`` and of ``SpatialAttention``.

    >>> CBAM(32)(torch.randn(2, 32, 8, 8)).shape
    torch.Size([2, 32, 8, 8])
    """

    def __init__(self, in_channels: int, reduction: int = 16, kernel_size: int = 7, *, bias: bool = True) -> None:
        super().__init__()
        self.channel = ChannelAttention(in_channels, reduction, bias=bias)
        self.spatial = SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))


def _check_tensor(x: Any, block: str) -> None:
    if not isinstance(x, Tensor):
        raise InvalidInput(f"{show(x)} was given to {block}; expected a tensor [N,C,*spatial]")


def _flatten_positions(x: Tensor, channels: int, block: str) -> Tensor:
    """``[N,C,*spatial]``, checked, as ``[N,C,positions]``; one position if there are no spatial dimensions."""
    _check_tensor(x, block)
    if x.ndim < 2 or 0 in x.shape[2:]:
        raise InvalidInput(
            f"an input of shape {list(x.shape)} was given to {block}; expected [N,{channels},*spatial], no spatial"
            " dimension of size zero; for one image without a batch dimension give x[None]"
        )
    if x.shape[1] != channels:
        raise InvalidInput(
            f"an input of shape {list(x.shape)} was given to {block}; expected [N,{channels},*spatial]: build it with"
            f" in_channels={x.shape[1]}, or, if the channels are last, give x.movedim(-1, 1)"
        )
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)


def _expand(gates: Tensor, x: Tensor) -> Tensor:
    """``[N,C]`` as ``[N,C,1,...]`` with as many dimensions as x."""
    return gates.view(*gates.shape, *[1] * (x.ndim - 2))
