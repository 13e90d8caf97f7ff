"""How much of a gradient flows through a block's gates: an exact split into what the content and what the gates carry.

A gated block computes ``y = x * g(x)``, so the image reaches a score on two kinds of path: those that pass the gate g
of that block, and all others, through x in the product or around the block. By the chain rule their gradients add up
to the whole one, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.lab.maps import view
from featureviz.network.activations import Activations, Rows
from featureviz.network.model import TappedModel, tapped
from featureviz.network.redirect import is_redirected
from featureviz.network.site import GateSite
from featureviz.network.taps import GATE_VALUE, GATED, PRE_GATE, hide_from_modes
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import Goal, as_objective, prepare
from featureviz.rng import Rng
from featureviz.transform import Pipeline, robust


@final
@dataclass(frozen=True)
class Split:
    """``total = content + gate`` for N images, each ``[N,...]`` on the CPU.

    Of ``split`` they are gradients ``[N,3,h,w]``, of ``difference`` changes of maps ``[N,C,h,w]``. ``total``
    was computed on its own, not as the sum: ``error`` is how far it is from it.
    """

    site: str
    total: Tensor
    content: Tensor
    gate: Tensor

    @property
    def gate_share(self) -> Tensor:
        """``|gate| / (|content| + |gate|)``, Euclidean, ``[N]`` in [0,1]: how much goes through the gates.

        NaN where both are zero.
        """
        gate, content = _norm(self.gate), _norm(self.content)
        return gate / (content + gate)

    @property
    def gate_projection(self) -> Tensor:
        """``<gate, total> / <total, total>``, ``[N]``: how much of the total the gates make up.

        That of the content is 1 minus this. Negative where the gates pull against the total; NaN where that is zero.
        """
        gate, total = self.gate.flatten(1), self.total.flatten(1)
        return (gate * total).sum(1) / total.square().sum(1)

    @property
    def error(self) -> float:
        """``max |total - content - gate| / max |total|``: rounding, about 1e-6."""
        return float((self.total - self.content - self.gate).abs().max() / self.total.abs().max().clamp(min=1e-30))


def split(
    model: TappedModel, objective: Goal, images: Tensor, site: str | GateSite, *, views: int = 1, seed: int = 0
) -> Split:
    """The gradient of a score for the image, split at one block's gates; all other blocks stay whole.

    ``content`` is the gradient with these gates held at their values (as in ``detach``), ``gate`` what
    their reaction adds: ``(ds/dg) (dg/dimage)``, the product of two gradients, along every path that passes g. Where
    the gates are held by an intervention it is exactly zero.

    Args:
        model: the network; interventions that are in force count.
        objective: an objective or a spec, such as ``"logit:207"``, or one an image.
        images: ``[3,H,W]`` or ``[N,3,H,W]`` in [0,1], brought to the network's size as by
            ``view``; the gradients are for that.
        site: the gated block.
        views: more than one averages the score over random views (``robust``), which
            smooths the gradients.
        seed: of the views.

    Raises:
        InvalidInput: images of another shape, type or range; a score that does not depend on the image; a block that
            runs after all that the objective reads.
        UnknownName: no such block or layer.

    >>> import featureviz as fv
    >>> parts = split(fv.load("embedded"), "logit:285", torch.rand(3, 96, 96), "features.9.block.2")
    >>> parts.gate.shape, parts.error < 1e-5
    (torch.Size([1, 3, 96, 96]), True)
    """
    (parts,) = splits(model, objective, images, [site], views=views, seed=seed).values()
    return parts


def splits(
    model: TappedModel,
    objective: Goal,
    images: Tensor,
    sites: Iterable[str | GateSite] | None = None,
    *,
    views: int = 1,
    seed: int = 0,
) -> dict[str, Split]:
    """``split`` at each of several blocks, by name: a profile over depth.

    Each block is split on its own, the others whole, so the gate parts of two blocks overlap in the paths that pass
    both, and do not add up. Left out, ``sites`` are all blocks that run before what the objective reads.

    >>> import featureviz as fv
    >>> profile = splits(fv.load("embedded"), "features.4:3", torch.rand(2, 3, 96, 96))
    >>> list(profile), profile["features.4.block.2"].gate_share.shape
    (['features.1.block.2', 'features.2.block.2', 'features.3.block.2', 'features.4.block.2'], torch.Size([2]))
    """
    names = tapped(model).gates if sites is None else [s if isinstance(s, str) else s.name for s in sites]
    found: dict[str, Split] = {}
    with differentiable():
        score = Scored(model, objective, views, seed)
        x = seen(model, images).requires_grad_()
        (total,) = torch.autograd.grad(score(x).sum(), x)
        for name in dict.fromkeys(names):
            parts = _parts(score, x, name)
            if parts is not None:
                found[name] = Split(name, total.cpu(), *(part.cpu() for part in parts))
            elif sites is not None:
                raise beyond(name, score.objective)
    return found


def difference(model: TappedModel, site: str | GateSite, before: Tensor, after: Tensor) -> Split:
    """How a block's output differs between two images, split exactly: ``dy = mean(g) dx + mean(x) dg``.

    The means are over the two images, so exchanging these only turns the sign.

    Args:
        model: the network.
        site: the gated block.
        before: ``[3,H,W]`` or ``[N,3,H,W]`` in [0,1].
        after: as many.

    >>> import featureviz as fv
    >>> parts = difference(fv.load("embedded"), "features.9.block.2", torch.zeros(3, 96, 96), torch.rand(3, 96, 96))
    >>> parts.total.shape, parts.error < 1e-5
    (torch.Size([1, 320, 6, 6]), True)
    """
    where = tapped(model).gates.resolve(site)
    layers = [kind + where.name for kind in (PRE_GATE, GATE_VALUE, GATED)]
    with torch.no_grad():
        pair = [model(seen(model, images), layers) for images in (before, after)]
    (x0, x1), (g0, g1), (y0, y1) = (tuple(a[layer].float().cpu() for a in pair) for layer in layers)
    if x0.shape != x1.shape:
        raise InvalidInput(f"maps of shapes {list(x0.shape)} and {list(x1.shape)} arose; expected as many images alike")
    g0, g1 = where.broadcast(g0, x0.ndim), where.broadcast(g1, x1.ndim)
    return Split(where.name, y1 - y0, (g0 + g1) / 2 * (x1 - x0), (x0 + x1) / 2 * (g1 - g0))


@final
class Scored:
    """An objective as a function of images alone: ``[N,3,h,w]`` in [0,1] to scores ``[N]``.

    ``views`` above 1 takes the mean over as many random views of each image.
    """

    def __init__(self, model: TappedModel, objective: Goal, views: int = 1, seed: int = 0) -> None:
        if views < 1:
            raise InvalidInput(f"views={views} was given; expected at least 1")
        self.model, self.views, self.seed = tapped(model), views, seed
        self.objective: Objective = prepare(as_objective(objective), model)
        self.running = model.isolated()  # its own, to be cut and probed

    def of(self, image: int) -> Scored:
        """The same for copies of image number ``image``."""
        return Scored(self.model, self.objective.select([image]), self.views, self.seed)

    def __call__(self, x: Tensor) -> Tensor:
        rows, size = Rows.make(len(x), self.views, x.device), (x.shape[-2], x.shape[-1])
        if self.views > 1:
            x = Pipeline(robust()).to(x.device)(x, Rng(self.seed, len(x), self.views, x.device), size)
        layers = self.objective.layers
        taken = self.running.read(x, self.model.taps(layers, size), layers, redirect=is_redirected(self.model.key))
        score = self.objective(Activations(taken, rows, self.model.labels))
        if x.requires_grad and not score.requires_grad:
            raise InvalidInput(f"{self.objective} has no gradient for the image; expected a score that depends on it")
        return score.view(-1, self.views).mean(1)


def seen(model: TappedModel, images: Tensor) -> Tensor:
    """``[3,H,W]`` or ``[N,3,H,W]`` in [0,1], checked, as the network sees them: ``[N,3,h,w]``."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InvalidInput(f"images of type {given} were given; expected a float tensor in [0, 1]: divide bytes by 255")
    if images.ndim not in (3, 4) or not len(images):
        raise InvalidInput(f"images of shape {list(images.shape)} were given; expected [3,H,W] or [N,3,H,W]")
    return torch.cat([view(model, image) for image in (images if images.ndim == 4 else images[None])])


@contextmanager
def differentiable() -> Iterator[None]:
    """While it lasts, gradients are recorded, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def beyond(name: str, objective: Objective) -> InvalidInput:
    """The error for a block that a score knows nothing of."""
    return InvalidInput(
        f"block {name!r} runs after all that {objective} reads, so nothing of it passes the block; give a block before"
        " that, or an objective behind it, such as a logit"
    )


def _parts(score: Scored, x: Tensor, name: str) -> tuple[Tensor, Tensor] | None:
    """Content and gate; nothing where the gates are never computed.

    The gates are cut: the network runs on with a leaf of the same values. One backward pass gives the content and the
    slope at the leaf, a second takes that slope from the gates to the image.
    """
    path = score.model.tap(GATE_VALUE + name).module
    with _cut(score.running.net.get_submodule(path)) as passed:
        value = score(x)
    if not passed:
        return None
    ((gates, leaf),) = passed
    content, slope = torch.autograd.grad(
        value.sum(), [x, leaf], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    if not gates.requires_grad:  # something holds them
        return content, torch.zeros_like(x)
    return content, torch.autograd.grad(gates, x, slope)[0]


@contextmanager
def _cut(gate: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While it lasts, the network goes on from a leaf in the place of what ``gate`` gives; both are noted."""
    passed: list[tuple[Tensor, Tensor]] = []

    def cut(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        with hide_from_modes():
            leaf = output.detach().requires_grad_()
            passed.append((output, leaf))
            return leaf.clone()  # what follows may work in place, which a leaf does not bear

    handle = gate.register_forward_hook(cut)
    try:
        yield passed
    finally:
        handle.remove()


def _norm(parts: Tensor) -> Tensor:
    return parts.flatten(1).norm(dim=1)
