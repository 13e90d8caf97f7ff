"""Attention blocks for networks of your own: squeeze-and-excitation, channel attention, spatial attention, CBAM.

Each gate is ``y = x * gate(z)`` with its own ``nn.Sigmoid``, so every step can be hooked.
"""

from featureviz.nn.attention import CBAM, ChannelAttention, SEModule, SpatialAttention

__all__ = ["CBAM", "ChannelAttention", "SEModule", "SpatialAttention"]
