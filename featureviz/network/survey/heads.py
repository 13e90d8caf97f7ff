"""Attention heads: what they give before their outputs are mixed by the projection."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from torch import nn

from featureviz.errors import ModelError
from featureviz.network.taps import INPUT, Tap

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "heads")
PROJECTIONS = ("proj", "out_proj", "to_out", "o_proj", "c_proj")


def head_tap(tap: Tap, net: nn.Module, running: Container[str]) -> Tap:
    """Where the outputs of the heads of the attention at ``tap`` are read, ``[M,T,heads * C]``, with its axes.

    Raises:
        ModelError: the module has no number of heads or no projection, or the projection does not run as a module.
    """
    module: Any = net.get_submodule(tap.module)
    heads = next((n for name in COUNTS if isinstance(n := getattr(module, name, None), int)), 0)
    name = next((name for name in PROJECTIONS if isinstance(getattr(module, name, None), nn.Module)), "")
    if not heads or not name or tap.axes is None:
        raise ModelError(
            f"{tap.module!r} is a {type(module).__name__}, which has no number of heads, or no projection of them"
            f" called {', '.join(PROJECTIONS)}; name the attention itself, such as 'blocks.0.attn'"
        )
    path = f"{tap.module}.{name}"
    whole = isinstance(module, nn.MultiheadAttention)
    if not whole and path not in running:
        raise ModelError(f"the projection {path!r} does not run as a module, so what it gets cannot be read")
    return Tap(path, INPUT, axes=replace(tap.axes, heads=heads), splits=tap.module if whole else "")
