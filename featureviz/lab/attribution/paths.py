"""An exact split of a gradient into what flows through a block's content and what flows through its gates.

A gated block computes ``y = x * g(x)``. So the image reaches a score on paths that pass the gate g, and on all others,
through x in the product or around the block. By the chain rule the gradients of both kinds add up exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import entries
from featureviz.errors import ModelError
from featureviz.lab.attribution.score_function import ScoreFunction, enable_gradients
from featureviz.lab.inputs import fit_images
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import GATE_VALUE, hide_from_modes
from featureviz.objectives.goals import Goal


@final
@dataclass(frozen=True)
class GradientPaths:
    """``total = content + gate`` for N images, each ``[N,3,h,w]`` on the CPU."""

    site: str
    total: Tensor  # computed directly and not as the sum; ``error`` compares both
    content: Tensor
    gate: Tensor

    @property
    def gate_share(self) -> Tensor:
        """``|gate| / (|content| + |gate|)`` with Euclidean norms, ``[N]`` in [0,1]; NaN if both are zero."""
        gate, content = (t.flatten(1).norm(dim=1) for t in (self.gate, self.content))
        return gate / (content + gate)

    @property
    def error(self) -> float:
        """``max |total - content - gate| / max |total|``: rounding, about 1e-6."""
        return float((self.total - self.content - self.gate).abs().max() / self.total.abs().max().clamp(min=1e-30))


def gradient_paths(
    model: TappedModel, objective: Goal, images: Tensor, site: str | GateSite, *, views: int = 1, seed: int = 0
) -> GradientPaths:
    """The gradient of a score with respect to the image, split at the gates of one block.

    ``content`` is the gradient with these gates constant (as in ``stop_gradient``). ``gate`` is
    ``(ds/dg) (dg/dimage)``, along every path that passes g; it is exactly zero if an intervention fixes the gates.

    ``objective`` and ``images`` are those of ``gradient``. With more than one of ``views``, the score is the mean over
    random views (``robust``), which smooths gradients; ``seed`` is that of the views.

    Raises:
        InvalidInput: as ``gradient``; a block that runs after all that the objective reads.

    >>> import featureviz as fv
    >>> paths = gradient_paths(fv.load("embedded"), "logit:285", torch.rand(3, 96, 96), "features.9.block.2")
    >>> paths.gate.shape, paths.error < 1e-5
    (torch.Size([1, 3, 96, 96]), True)
    """
    (paths,) = gradient_path_profile(model, objective, images, [site], views=views, seed=seed).values()
    return paths


@own_surroundings
def gradient_path_profile(
    model: TappedModel, objective: Goal, images: Tensor, sites: Iterable[str | GateSite] | None = None, *,
    views: int = 1, seed: int = 0,
) -> dict[str, GradientPaths]:  # fmt: skip
    """``gradient_paths`` at each of several blocks, by name: a profile over depth.

    Each block is split alone. The gate parts of two blocks share the paths that pass both, so they do not add up. The
    default ``sites`` are all blocks that run before what the objective reads.

    >>> import featureviz as fv
    >>> profile = gradient_path_profile(fv.load("embedded"), "features.4:3", torch.rand(2, 3, 96, 96))
    >>> list(profile), profile["features.4.block.2"].gate_share.shape
    (['features.1.block.2', 'features.2.block.2', 'features.3.block.2', 'features.4.block.2'], torch.Size([2]))
    """
    gates = tapped(model).gates
    names = (
        list(gates) if sites is None else [gates.resolve(s).name for s in entries("sites", sites, of="gated blocks")]
    )
    profile: dict[str, GradientPaths] = {}
    with enable_gradients():
        score = ScoreFunction(model, objective, views, seed)
        x = fit_images(model, images).requires_grad_()
        (total,) = torch.autograd.grad(score(x).sum(), x)
        for name in dict.fromkeys(names):
            split = _split_gradient(score, x, name)
            if split is not None:
                profile[name] = GradientPaths(name, total.cpu(), *(gradient.cpu() for gradient in split))
            elif sites is not None:
                raise score.not_reached(name)
    return profile


def _split_gradient(score: ScoreFunction, x: Tensor, name: str) -> tuple[Tensor, Tensor] | None:
    """The gradients through the content and through the gates; None if the gates are not computed.

    The gates' output is replaced by a leaf of the same values. One backward pass gives the gradient of the content and
    the slope at the leaf. A second pass takes this slope from the gates to the image.
    """
    path = score.model.tap(GATE_VALUE + name).module
    with _replace_by_leaf(score.running.net.get_submodule(path)) as replaced:
        value = score(x)
    if not replaced:
        return None
    if len(replaced) > 1:
        raise ModelError(
            f"gate {name!r} is computed {len(replaced)} times in one forward, so its gradient has no two parts; give"
            " another block"
        )
    ((gates, leaf),) = replaced
    content, slope = torch.autograd.grad(
        value.sum(), [x, leaf], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    if not gates.requires_grad:  # an intervention fixes them
        return content, torch.zeros_like(x)
    return content, torch.autograd.grad(gates, x, slope)[0]


@contextmanager
def _replace_by_leaf(gate: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Inside the ``with`` block, the network continues from a leaf instead of the output of ``gate``; gives both."""
    replaced: list[tuple[Tensor, Tensor]] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        with hide_from_modes():
            leaf = output.detach().requires_grad_()
            replaced.append((output, leaf))
            return leaf.clone()  # the next operation may work in place, which is not allowed on a leaf

    handle = gate.register_forward_hook(hook)
    try:
        yield replaced
    finally:
        handle.remove()
