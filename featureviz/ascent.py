"""Gradient ascent: one step, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from featureviz.activations import Rows
from featureviz.allocator import headroom
from featureviz.errors import InvalidInput, NonFinite, out_of_memory
from featureviz.evaluate import prepared
from featureviz.image import Parameterization
from featureviz.model import TappedModel
from featureviz.objective import Objective
from featureviz.rng import Rng
from featureviz.transform import Pipeline
from featureviz.trunk import Precision, Trunk

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
PIXELS = 8 * 224 * 224  # of views that go through the network at once on a CPU: with more a view costs no less


@final
class Ascent:
    """Moves the leaves of ``image`` up the gradient of ``objective``, averaged over ``views`` random views a step.

    Args:
        model: the network, on the device to work on.
        objective: what to maximise; copied, never changed.
        image: the parameterization whose leaves move; moved to the model's device.
        transforms: the robustness pipeline.
        views: draws an image and step.
        optimizer: makes the optimizer from the leaves; it minimises the negated score.
        seed: of the draws.
        numbers: the number of each image, which with the seed keys its draws; 0, 1, 2... if left out.
        capacity: how many steps there is room for.
        rate: the learning rate of each step, set before it; the optimizer's own if left out.
        redirect: how many of the first steps send gradients through dead activations (:mod:`featureviz.gradients`).
        precision: of the network, ``"float32"`` or ``"bfloat16"``; image, views and scores are float32 anyway.
        compile: whether the network is compiled (:class:`featureviz.trunk.Trunk`).

    ``scores`` is ``[capacity, N]`` on the device, filled up to ``steps_done``. A step in which a score or a gradient is
    not finite moves nothing; :meth:`check` then raises. Through the network a batch goes in ``parts``: on a CPU a few
    views at a time, which is quickest, and anywhere halved until they fit into memory. The images are the same.
    """

    def __init__(
        self,
        model: TappedModel,
        objective: Objective,
        image: Parameterization,
        *,
        transforms: Iterable[nn.Module] = (),
        views: int = 1,
        optimizer: MakeOptimizer | None = None,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
        capacity: int = 512,
        rate: Callable[[int], float] | None = None,
        redirect: int = 0,
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        n = len(image)
        if objective.n not in (1, n):
            raise InvalidInput(f"the objective {objective.spec} describes {objective.n} images; {n} were given")
        if numbers is not None and len(numbers) != n:
            raise InvalidInput(f"numbers={list(numbers)} was given for {n} images; expected one each")
        if views < 1:
            raise InvalidInput(f"views={views} was given; expected at least 1")
        device = model.device
        self.model, self.image = model, image.to(device)
        self.objective = prepared(objective, model)
        self.pipeline = Pipeline(transforms).to(device)
        self.leaves: list[nn.Parameter] = [leaf for leaf in image.parameters() if leaf.requires_grad]
        self.optimizer = (optimizer or adam(0.05))(self.leaves)
        self.rng = Rng(seed, n if numbers is None else torch.tensor(numbers), views, device)
        with torch.no_grad():
            height, width = self.image().shape[-2:]
        self.size = model.input_size((height, width))
        self._divide(*self._at_once())
        self.trunk = Trunk(model, self.objective.layers, precision=precision, compile=compile)
        self._headroom: Tensor | None = None
        self.scores = torch.zeros(capacity, n, device=device)
        self.steps_done, self.redirect, self.rate = 0, redirect, rate
        self._done, self._failed_at = (torch.tensor(i, device=device) for i in (0, -1))
        self._before = [torch.empty_like(leaf) for leaf in self.leaves]

    def _at_once(self) -> tuple[int, int]:
        """How many images, and views of each, go through the network together."""
        views, images = self.rng.views, len(self.image)
        if self.model.device.type == "cpu" and not self.objective.across_batch:
            at_once = max(1, PIXELS // (self.size[0] * self.size[1]))
            images, views = _evenly(images, max(1, at_once // views)), _evenly(views, at_once)
        return images, views

    def step(self) -> None:
        """One step up; no host synchronisation."""
        self.pace()
        score, gradients = self._climb(self.objective)
        total = score.sum()
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = gradient
            total = total + gradient.sum()
        with torch.no_grad():
            for leaf, old in zip(self.leaves, self._before, strict=True):
                old.copy_(leaf)
            self.optimizer.step()
            ok = torch.isfinite(total) & (self._failed_at < 0)  # a sum is finite only if every part of it is
            for leaf, old in zip(self.leaves, self._before, strict=True):
                torch.where(ok, leaf, old, out=leaf)
            self._failed_at.copy_(torch.where(ok | (self._failed_at >= 0), self._failed_at, self._done))
            self.scores.index_copy_(0, self._done[None], score[None])
            self._done += 1
        self.rng.advance()
        self.steps_done += 1

    def pace(self) -> None:
        """Set the learning rate of the coming step."""
        if self.rate is not None:
            for group in self.optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(self.rate(self.steps_done))  # in its place: a captured graph reads it there
                else:
                    group["lr"] = self.rate(self.steps_done)

    def run(
        self,
        steps: int,
        every: int = 1,
        on: Callable[[Ascent], None] | None = None,
        step: Callable[[], None] | None = None,
    ) -> None:
        """``steps`` steps within ``capacity``; after each ``every`` and the last, :meth:`check`, then ``on(self)``.

        ``step`` is done in the place of :meth:`step`, as a captured one.
        """
        if self.steps_done + steps > len(self.scores):
            raise InvalidInput(
                f"{self.steps_done} + {steps} steps were asked for; this Ascent has room for {len(self.scores)}:"
                " give it a larger capacity"
            )
        for i in range(1, steps + 1):
            (step or self.step)()
            if i % every == 0 or i == steps:
                self.check()
                if on is not None:
                    on(self)

    def check(self) -> None:
        """Raise :class:`NonFinite` if a step has failed; synchronises with the host."""
        failed = int(self._failed_at)
        if failed >= 0:
            self.rng.advance(failed - self.steps_done)
            self._done.fill_(failed)
            self.steps_done = failed
            term = self._culprit()
            weights = [n for n, p in self.model.net.named_parameters() if not bool(torch.isfinite(p).all())]
            remedy = (
                f"the network's weights {weights[0]!r} are not finite: load them again"
                if weights
                else "a smaller lr, or an objective without division by something that can be 0, may help"
            )
            raise NonFinite(f"step {failed}: {term}; the last finite image is kept. {remedy}", failed, term)

    def images(self) -> Tensor:
        """``[N,C,H,W]`` in (0,1), detached, on the CPU."""
        with torch.no_grad():
            return self.image().cpu()

    def _climb(self, objective: Objective) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[N]``, and the gradients of their negated sum in the leaves; in as many parts as memory asks for."""
        while True:
            try:
                with torch.enable_grad():
                    images = self.image()
                    score, slope = self._climbed(objective, images.detach())
                    return score, list(torch.autograd.grad(images, self.leaves, slope))
            except Exception as error:
                if not out_of_memory(error) or not self._halve():
                    raise
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()  # behind the except: the error's traceback holds on to tensors

    def _climbed(self, objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[N]`` and the negated sum's gradient in the pixels; images are decoded once for all parts."""
        score, slope = torch.zeros(len(images), device=images.device), torch.zeros_like(images)
        for part in self.parts:
            seen = images[part.images].requires_grad_()
            own = self._score(objective, seen, part)
            score[part.images] += own.detach()
            slope[part.images] += torch.autograd.grad(-own.sum(), seen)[0]
        return score, slope

    def _score(self, objective: Objective, images: Tensor, part: _Part) -> Tensor:
        """The share that the part's views have in the scores of its images."""
        views = self.pipeline(images, part.rng.again(), self.size)
        seen = self.trunk(views, part.rows, redirect=self.steps_done < self.redirect)  # of views [M,C,h,w]
        if self._headroom is None:
            self._headroom = headroom(self.model.device)  # above all that the forward holds
        score = objective(seen)  # [M]
        if score.shape != views.shape[:1]:
            raise InvalidInput(
                f"{objective.spec} gave scores of shape {list(score.shape)} for {len(views)} views; expected"
                f" [{len(views)}], one a view: reduce over everything but the batch"
            )
        if not score.requires_grad:
            raise InvalidInput(f"{objective.spec} does not depend on the image, so there is nothing to climb")
        return score.float().view(-1, part.rows.views).sum(1) / self.rng.views  # [N of the part]

    def _halve(self) -> bool:
        """Parts of half the images, or of half the views of one image; False if there is nothing to halve."""
        images, views = (s.stop - s.start for s in (self.parts[0].images, self.parts[0].views))
        if self.objective.across_batch or (images == 1 and views == 1):
            return False
        if images > 1:
            self._divide((images + 1) // 2, views)
        else:
            self._divide(1, (views + 1) // 2)
        return True

    def _divide(self, images: int, views: int) -> None:
        """Let so many images go through the network at once, and so many views of each."""
        self.parts = [
            _Part(i, k, self.rng.part(i, k), Rows.of(range(i.start, i.stop), k.stop - k.start, self.model.device))
            for i in _slices(len(self.image), images)
            for k in _slices(self.rng.views, views)
        ]

    def _culprit(self) -> str:
        """The first term whose score or gradient is not finite at this step."""
        for leaf in [*self.objective.leaves(), self.objective]:
            if leaf.n not in (1, len(self.image)):
                continue
            score, gradients = self._climb(leaf)
            if not bool(torch.isfinite(score).all()):
                return f"the score of {leaf.spec} is {score[~torch.isfinite(score)][0].item()}"
            if not all(bool(torch.isfinite(g).all()) for g in gradients):
                return f"the gradient of {leaf.spec} is not finite"
        return f"the score of {self.objective.spec} or its gradient is not finite"


@final
@dataclass(frozen=True)
class _Part:
    """What goes through the network at once: some images and some of the views of each."""

    images: slice
    views: slice
    rng: Rng
    rows: Rows


def _evenly(count: int, most: int) -> int:
    """The size of as few parts as need be of ``count``, none larger than ``most``."""
    return -(-count // -(-count // most))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> MakeOptimizer:
    """Adam (Kingma & Ba 2015); with its usual ``betas``, as Lucid uses it."""
    return _Adam(lr, betas)


@final
@dataclass(frozen=True)
class _Adam:
    """Makes Adam of leaves; its text is what a recipe says."""

    lr: float
    betas: tuple[float, float]

    def __call__(self, leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(leaves, lr=self.lr, betas=self.betas, fused=leaves[0].device.type in ("cpu", "cuda"))

    def __str__(self) -> str:
        usual = self.betas == (0.9, 0.999)
        return f"adam lr {self.lr:g}" + ("" if usual else f" betas {self.betas[0]:g}, {self.betas[1]:g}")
