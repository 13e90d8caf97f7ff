"""Gradient ascent: one step, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from featureviz.ascent.headroom import headroom
from featureviz.ascent.microbatch import Microbatch, first_size, halved, microbatches
from featureviz.ascent.optimizers import Adam, MakeOptimizer, learning_rate, make_optimizer
from featureviz.ascent.runtime import Runtime
from featureviz.checks import STEPS, VIEWS, instance, whole
from featureviz.errors import InvalidInput, NonFinite, out_of_memory
from featureviz.image import Parameterization
from featureviz.image.base import check_images
from featureviz.image.picture import cover
from featureviz.network.activations import Activations
from featureviz.network.execution.executor import Executor
from featureviz.network.in_force import check_batch, interventions_across_batch
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import modes_kept, no_autocast
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import network_layers, prepare, score_views
from featureviz.rng import Rng, number_images
from featureviz.transform import Pipeline

OnStep = Callable[["Ascent"], None]


@final
class Ascent:
    """Moves the leaves of ``image`` up the gradient of ``objective``, averaged over ``views`` random views a step.

    Args:
        model: the network, on the device to work on.
        objective: what to maximise; copied, never changed.
        image: the parameterization whose leaves move; moved to the model's device.
        transforms: the robustness pipeline.
        views: random views of an image in a step.
        steps: how many steps there will be, which is the length of schedules.
        optimizer: makes the optimizer from the leaves; it minimises the negated score. Adam, if left out.
        seed: of the random views.
        image_ids: the number of each image, which with the seed decides its views; 0, 1, 2... if left out.
        runtime: precision, compilation and redirected gradients. For a captured step make a ``CudaGraphStep``.

    ``scores`` is ``[steps, N]`` on the device, filled up to ``steps_done``. ``slope`` ``[N,H,W]`` is the sum over the
    steps of how much each pixel mattered, the mean over channels of ``|d score / d pixel|``, for images that keep it. A
    step in which a score or a gradient is not finite moves nothing; ``check`` then raises. A batch goes through the
    network in ``microbatches``: on a CPU a few views at a time, which is quickest, and on any device halved until they
    fit into memory. The images are the same.
    """

    def __init__(
        self,
        model: TappedModel,
        objective: Objective,
        image: Parameterization,
        *,
        transforms: Iterable[nn.Module] = (),
        views: int = 1,
        steps: int = 512,
        optimizer: MakeOptimizer | None = None,
        seed: int = 0,
        image_ids: Sequence[int] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        n, device = len(instance("image", image, Parameterization)), tapped(model).device
        runtime = Runtime() if runtime is None else instance("runtime", runtime, Runtime)
        steps, views = whole("steps", steps, 0, STEPS), whole("views", views, 1, VIEWS)
        ids = number_images(n, image_ids)
        _check_count(model, objective, n)
        self.model, self.image, self.runtime = model, image.to(device), runtime
        self.objective = prepare(objective, model)
        self.pipeline = Pipeline(transforms, alpha=image.alpha).to(device)
        self.leaves: list[nn.Parameter] = [leaf for leaf in image.parameters() if leaf.requires_grad]
        images, optimizer = check_images(self.image, model.channels), Adam() if optimizer is None else optimizer
        self.optimizer = make_optimizer(optimizer, self.leaves)
        self.schedule: Callable[[float], float] | None = getattr(optimizer, "schedule", None)
        self.rng = Rng(seed, ids, views, device)
        self.size = model.input_size((images.shape[-2], images.shape[-1]))
        self.pipeline.check(images[:1], self.rng.select(slice(0, 1), slice(0, views)), self.size)
        self.together = self.objective.across_batch or image.across_batch or interventions_across_batch(model.key)
        self.executor = Executor(
            model, network_layers(self.objective, image.alpha), self.size,
            precision=runtime.precision, compile=runtime.compiles(n * views * steps),
        )  # fmt: skip
        self._split(*first_size(n, views, self.size, device, self.together))
        self._headroom: Tensor | None = None
        self.scores, self.steps_done = torch.zeros(steps, n, dtype=torch.float32, device=device), 0
        self.done, self.failed_at = (torch.tensor(i, device=device) for i in (0, -1))  # as steps_done, on the device
        self.slope = images.new_zeros(n, *images.shape[2:]) if image.keeps_slope else None
        self._before, self._start = ([leaf.detach().clone() for leaf in self.leaves] for _ in range(2))

    @property
    def share_done(self) -> float:
        """The share of the steps that are done, by which schedules go: 0 to 1."""
        return self.steps_done / max(1, len(self.scores))

    @property
    def phase(self) -> tuple[bool, tuple[int, ...]]:
        """What decides which kernels the coming step runs: redirected gradients, and the transforms that take part."""
        acting = tuple(map(id, self.pipeline.acting(self.share_done)))
        return self.steps_done < self.runtime.redirect, acting

    def step(self) -> None:
        """One step up; no host synchronisation."""
        self.set_lr()
        score, gradients = self.score_and_gradient(keep_slope=True)
        total = score.sum()
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = _laid_out_as(leaf, gradient)
            total = total + gradient.sum()
        with modes_kept(), torch.no_grad():
            for leaf, old in zip(self.leaves, self._before, strict=True):
                old.copy_(leaf)
            self.optimizer.step()
            ok = torch.isfinite(total) & (self.failed_at < 0)  # a sum is finite only if every part of it is
            for leaf, old in zip(self.leaves, self._before, strict=True):
                torch.where(ok, leaf, old, out=leaf)
            self.failed_at.copy_(torch.where(ok | (self.failed_at >= 0), self.failed_at, self.done))
            self.scores.index_copy_(0, self.done[None], score[None])
            self.done += 1
        self.rng.advance()
        self.steps_done += 1

    def set_lr(self) -> None:
        """Set the learning rate of the coming step."""
        if self.schedule is not None:
            lr = learning_rate(self.schedule, self.share_done)
            for group in self.optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(lr)  # in its place: a captured graph reads it there
                else:
                    group["lr"] = lr

    def run(self, steps: int, every: int = 1, on: OnStep | None = None, step: Callable[[], None] | None = None) -> None:
        """Take ``steps`` steps. After each ``every`` of them, and after the last, call ``check`` and ``on(self)``.

        ``step`` is called in the place of ``self.step``, such as a captured one.
        """
        if self.steps_done + steps > len(self.scores):
            raise InvalidInput(
                f"{self.steps_done} + {steps} steps were given; this Ascent was made for {len(self.scores)}: give more"
            )
        for i in range(1, steps + 1):
            (step or self.step)()
            if i % every == 0 or i == steps:
                self.check()
                if on is not None:
                    on(self)

    def check(self) -> None:
        """Raise ``NonFinite`` if a step has failed; synchronises with the host."""
        failed = int(self.failed_at)
        if failed >= 0:
            self.rng.advance(failed - self.steps_done)
            self.done.fill_(failed)
            self.steps_done = failed
            term = self._culprit()
            weights = [n for n, p in self.model.net.named_parameters() if not bool(torch.isfinite(p).all())]
            remedy = (
                f"the network's weights {weights[0]!r} are not finite: load them again"
                if weights
                else "a smaller lr, or an objective without division by something that can be 0, may help"
            )
            raise NonFinite(f"step {failed}: {term}; the last finite image is kept. {remedy}", failed, term)

    def unmoved(self) -> list[int]:
        """The places of the images that are still as they started: no step had a gradient for them."""
        n, pairs = len(self.image), list(zip(self.leaves, self._start, strict=True))
        moved = [(leaf != old).flatten(1).any(1) for leaf, old in pairs if leaf.shape[:1] == (n,)]
        return torch.stack(moved).any(0).logical_not().nonzero().flatten().tolist() if moved else []

    def images(self) -> Tensor:
        """``[N,C,H,W]`` in (0,1), detached, on the CPU."""
        with modes_kept(), torch.no_grad():
            return self.image().cpu()

    def score_and_gradient(
        self, objective: Objective | None = None, *, keep_slope: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[N]`` at this step, and for each leaf the gradient of their negated sum. Nothing moves.

        ``objective`` is another one in the place of the ascent's own, such as one of its terms. ``keep_slope`` adds the
        gradients of pixels to ``slope``.
        """
        objective = objective or self.objective
        while True:
            try:
                with modes_kept(), torch.enable_grad(), no_autocast(self.model.device.type):
                    images = self.image()
                    score, slope = self._through_network(objective, images.detach())
                    if keep_slope and self.slope is not None:
                        self.slope += slope.abs().mean(1).nan_to_num(0.0, 0.0, 0.0)
                    return score, list(torch.autograd.grad(images, self.leaves, slope))
            except Exception as error:
                if not out_of_memory(error) or not self.halve():
                    raise
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()  # after the except: the error's traceback holds on to tensors

    def _through_network(self, objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[N]`` and the gradient of their negated sum for the pixels, which are decoded once for all parts."""
        score, slope = images.new_zeros(len(images)), torch.zeros_like(images)
        for part in self.microbatches:
            pixels = images[part.images].requires_grad_()
            own = self._score(objective, pixels, part)
            score[part.images] += own.detach()
            slope[part.images] += self._gradient(own, pixels)
        return score, slope

    def _gradient(self, score: Tensor, pixels: Tensor) -> Tensor:
        try:
            return torch.autograd.grad(-score.sum(), pixels)[0]
        except RuntimeError as error:
            if not any(said in str(error) for said in ("appears to not have been used", "use_reentrant")):
                raise
            why = self.executor.explain_missing_gradient() or (
                "it detaches it, or runs a part under a reentrant checkpoint; switch its checkpoints off, or give them"
                " use_reentrant=False"
            )
            raise InvalidInput(
                f"no gradient of {self.objective.spec} reaches the image. {self.model.name}: {why}"
            ) from error

    def _score(self, objective: Objective, images: Tensor, part: Microbatch) -> Tensor:
        """What the views of this part add to the scores of its images."""
        views = self.pipeline(images, part.rng.restart(), self.size, self.share_done)
        redirect = self.steps_done < self.runtime.redirect
        see = partial(self._see, part, (images.shape[-2], images.shape[-1]))
        rows = replace(part.rows, step=self.rng.step, see=see)
        activations = self.executor(views, rows, redirect=redirect)  # of views [M,C,h,w]
        if self._headroom is None:
            self._headroom = headroom(self.model.device)  # made when the forward holds its most
        if self.image.alpha:
            activations = activations.with_alpha(images[:, -1:].repeat_interleave(part.rows.views, 0))
        score = score_views(objective, activations)  # [M]
        if not score.requires_grad:
            why = ""
            if not any(a.requires_grad for a in activations.values()):
                cut = "it cuts the gradient off on the way, as detach, rounding and argmax do"
                why = self.executor.explain_missing_gradient() or cut
            raise InvalidInput(
                f"{objective.spec} does not depend on the image, so there is nothing to climb"
                + (f". {self.model.name}: {why}" if why else "")
            )
        return score.view(-1, part.rows.views).sum(1) / self.rng.views  # [N of the part]

    @torch.no_grad()
    def _see(self, part: Microbatch, size: tuple[int, int], pictures: Tensor, images: slice) -> Activations:
        """The activations of pictures ``[n,C,H,W]``, seen through the draws of some images of this part."""
        rng, rows = part.select(images)
        return self.executor(self.pipeline.show(cover(pictures, size), rng, self.size, self.share_done), rows)

    def halve(self) -> bool:
        """Make the micro-batches half as large; False where that is not possible."""
        images, views = (s.stop - s.start for s in (self.microbatches[0].images, self.microbatches[0].views))
        smaller = None if self.together else halved(images, views)
        if smaller is None:
            return False
        self._split(*smaller)
        return True

    def _split(self, images: int, views: int) -> None:
        self.microbatches = microbatches(self.rng, len(self.image), images, views, self.model.device)

    def _culprit(self) -> str:
        """The first term whose score or gradient is not finite at this step."""
        for leaf in [*self.objective.leaves(), self.objective]:
            if leaf.n not in (1, len(self.image)):
                continue
            try:
                score, gradients = self.score_and_gradient(leaf)
            except InvalidInput:  # a term that does not depend on the image
                continue
            if not bool(torch.isfinite(score).all()):
                return f"the score of {leaf.spec} is {score[~torch.isfinite(score)][0].item()}"
            if not all(bool(torch.isfinite(g).all()) for g in gradients):
                return f"the gradient of {leaf.spec} is not finite"
        return f"the score of {self.objective.spec} or its gradient is not finite"


def _laid_out_as(leaf: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the strides of its leaf: a fused optimizer reads memory in order, whatever the strides are."""
    same = gradient.stride() == leaf.stride()
    return gradient if same else torch.empty_like(leaf).copy_(gradient)


def _check_count(model: TappedModel, objective: Objective, n: int) -> None:
    """Raise an error if the network has no numbers, or the objective or an intervention is for other images."""
    model.require_numbers()
    instance("objective", objective, Objective)
    check_batch(model.key, n)
    if objective.n not in (1, n):
        raise InvalidInput(f"the objective {objective.spec} describes {objective.n} images; {n} were given")
