"""A rolling batch: an image that climbs no further leaves it, and the next one takes its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from featureviz.ascent import Ascent
from featureviz.errors import InvalidInput, NonFinite
from featureviz.image import Parameterization
from featureviz.model import TappedModel
from featureviz.objective import Objective, PerImage
from featureviz.objectives import per_image
from featureviz.optim import Row, RowAdam
from featureviz.plateau import Plateau
from featureviz.trunk import Precision


@final
@dataclass(frozen=True)
class Climb:
    """One image: all that its next step depends on, and when it is finished the picture.

    Attributes:
        goal: which of the goals is its own.
        number: keys its draws, with the seed and its age, which is the length of ``scores``.
        leaves: its row of each leaf, ``[1, ...]``; empty when finished.
        moments: its row of the optimizer; empty at the start and when finished.
        scores: ``[T]``, one a step, on the CPU.
        image: ``[C,H,W]`` in (0,1) on the CPU, when finished.
        error: what ended it, if its score or gradient was not finite.
    """

    goal: int
    number: int
    leaves: tuple[Tensor, ...]
    moments: Row
    scores: Tensor
    image: Tensor | None = None
    error: NonFinite | None = None


@final
class Rolling:
    """Climbs for every goal, ``batch`` images at a time.

    All ages in a batch differ by whole windows, and ``steps`` is the end of one, so that no image is looked at sooner
    or later for its company: what windows do not divide, newcomers climb among themselves. So they do their redirected
    steps, since redirection is of a whole batch.

    Args:
        model: the network, on the device to work on.
        goal: for one image or for each of ``numbers``.
        newcomers: makes the images of the numbers it is called with.
        numbers: the number of each image, which keys its draws.
        batch: images at a time.
        steps: the most an image gets.
        plateau: when it needs no more, if there is such a thing.
        transforms: the robustness pipeline.
        views: draws an image and step.
        lr: Adam's learning rate.
        betas: how fast Adam forgets.
        seed: of the draws.
        redirect: how many first steps send gradients through dead activations.
        precision: of the network. It is not compiled, which would be anew for each size of the last batches.

    ``climbs`` are those that have entered, in the order of ``numbers``; at any moment each is whole.

    >>> import featureviz as fv
    >>> model, goal = fv.load("embedded"), fv.Channel("features.2", [1, 2, 3])
    >>> rolling = Rolling(model, goal, lambda numbers: fv.FourierImage(len(numbers), 32), range(3), batch=2, steps=1)
    >>> rolling.run(lambda climb: print(climb.goal, climb.image.shape))
    0 torch.Size([3, 32, 32])
    1 torch.Size([3, 32, 32])
    2 torch.Size([3, 32, 32])
    """

    def __init__(
        self,
        model: TappedModel,
        goal: Objective,
        newcomers: Callable[[Sequence[int]], Parameterization],
        numbers: Sequence[int],
        *,
        batch: int = 16,
        steps: int = 512,
        plateau: Plateau | None = None,
        transforms: Iterable[nn.Module] = (),
        views: int = 1,
        lr: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        seed: int = 0,
        redirect: int = 0,
        precision: Precision = "float32",
    ) -> None:
        if batch < 1:
            raise InvalidInput(f"batch={batch} was given; expected at least 1")
        if goal.across_batch:
            raise InvalidInput(f"{goal.spec} looks at the other images of its batch, which change here; use render")
        if goal.n not in (1, len(numbers)):
            raise InvalidInput(f"numbers={list(numbers)} was given for {goal.n} images; expected one each")
        self.model, self.goal, self.newcomers, self.numbers = model, goal, newcomers, numbers
        self.batch, self.steps, self.plateau = batch, steps, plateau
        self.transforms, self.views, self.lr = list(transforms), views, lr
        self.betas, self.seed, self.redirect = betas, seed, redirect
        self.precision: Precision = precision
        self.window = plateau.window if plateau else 16
        self.climbs: list[Climb] = []
        self.template: Parameterization | None = None
        self._last: tuple[list[int], Ascent] | None = None

    def run(self, on: Callable[[Climb], None]) -> None:
        """Until every goal has its image; each goes to ``on`` as it is finished."""
        active: list[int] = []
        waiting: list[int] = []
        while active or len(self.climbs) < len(self.numbers):
            if not waiting and len(active) < self.batch:
                waiting = self._finish(self._enter(), on)
            room = self.batch - len(active)
            active, waiting = active + waiting[:room], waiting[room:]
            if len(active) == self.batch or len(self.climbs) == len(self.numbers):
                self._climb(active, self.window)
                active = self._finish(active, on)

    def pictures(self) -> Tensor:
        """``[N,C,H,W]`` of all that have entered, finished or not."""
        at = [i for i, climb in enumerate(self.climbs) if climb.image is None]
        drawn = dict(zip(at, self._draw(at), strict=True))
        return torch.stack([drawn[i] if climb.image is None else climb.image for i, climb in enumerate(self.climbs)])

    def _enter(self) -> list[int]:
        """The next ``batch`` goals' images, after the steps that they climb among themselves."""
        at = len(self.climbs)
        numbers = self.numbers[at : at + self.batch]
        if not numbers:
            return []
        image = self.newcomers(numbers)
        leaves = [leaf.detach().to(self.model.device) for leaf in image.parameters()]
        if any(leaf.ndim == 0 or len(leaf) != len(numbers) for leaf in leaves):
            shapes = [list(leaf.shape) for leaf in leaves]
            raise InvalidInput(
                f"{type(image).__name__} of {len(numbers)} images has leaves {shapes}; expected a row each"
            )
        self.template = image.to(self.model.device) if self.template is None else self.template
        rows = zip(*(leaf.split(1) for leaf in leaves), strict=True)
        self.climbs += [Climb(at + i, numbers[i], row, (), torch.zeros(0)) for i, row in enumerate(rows)]
        entered = list(range(at, len(self.climbs)))
        redirected = min(self.redirect, self.steps)
        self._climb(entered, redirected + (self.steps - redirected) % self.window)
        return entered

    def _climb(self, rows: list[int], steps: int) -> None:
        """Move these images on, those to blame for a step that went wrong up to it."""
        if not rows or not steps:
            return
        ascent = self._ascent(rows)
        start = ascent.steps_done
        try:
            ascent.run(steps, every=steps)
        except KeyboardInterrupt:
            with suppress(NonFinite):  # then they stay where they were before these steps
                ascent.check()
                self._keep(rows, ascent, start)
            raise
        except NonFinite as error:
            good = ascent.steps_done - start
            self._last = None  # its moments have taken the step that went wrong
            self._climb(rows, good)
            self._blame(rows, error)
            self._climb([row for row in rows if self.climbs[row].error is None], steps - good)
        else:
            self._keep(rows, ascent, start)

    def _blame(self, rows: list[int], error: NonFinite) -> None:
        """Those whose next step goes wrong alone as well, each with what it says then; all of them if none does."""
        told: dict[int, NonFinite] = {}
        for row in rows:
            try:
                self._ascent([row]).run(1)
            except NonFinite as own:
                told[row] = own
        self._last = None
        for row, own in (told or dict.fromkeys(rows, error)).items():
            self.climbs[row] = replace(self.climbs[row], error=own)

    def _ascent(self, rows: list[int]) -> Ascent:
        """These images under way; the last ascent if it was of the same."""
        if self._last is None or self._last[0] != rows:
            climbs = [self.climbs[row] for row in rows]
            age = min(len(climb.scores) for climb in climbs)  # of all, while there is anything left to redirect
            ascent = Ascent(
                self.model, self._goal(rows), self._image(rows), transforms=self.transforms, views=self.views,
                optimizer=partial(self._adam, rows=[climb.moments for climb in climbs]), seed=self.seed,
                numbers=[climb.number for climb in climbs], start=[len(climb.scores) for climb in climbs],
                capacity=self.steps - age, redirect=max(0, self.redirect - age),
                precision=self.precision,
            )  # fmt: skip
            self._last = list(rows), ascent
        return self._last[1]

    def _keep(self, rows: list[int], ascent: Ascent, start: int) -> None:
        """What these images have become since the ascent's step ``start``."""
        assert isinstance(ascent.optimizer, RowAdam)
        leaves = zip(*(leaf.detach().clone().split(1) for leaf in ascent.image.parameters()), strict=True)
        scores = ascent.scores[start : ascent.steps_done].T.cpu()
        for row, leaf, moments, own in zip(rows, leaves, ascent.optimizer.rows(), scores, strict=True):
            climb = self.climbs[row]
            self.climbs[row] = replace(climb, leaves=leaf, moments=moments, scores=torch.cat([climb.scores, own]))

    def _finish(self, rows: list[int], on: Callable[[Climb], None]) -> list[int]:
        """Draw those that are finished; the others."""
        ready = [row for row in rows if self._finished(self.climbs[row])]
        for row, image in zip(ready, self._draw(ready), strict=True):
            self.climbs[row] = replace(self.climbs[row], leaves=(), moments=(), image=image)
            on(self.climbs[row])
        return [row for row in rows if row not in ready]

    def _finished(self, climb: Climb) -> bool:
        done = climb.error is not None or len(climb.scores) >= self.steps
        return done or (self.plateau is not None and self.plateau.reached(climb.scores))

    def _draw(self, rows: list[int]) -> list[Tensor]:
        with torch.no_grad():
            return [image for at in rows for image in self._image([at])().cpu()]

    def _image(self, rows: list[int]) -> Parameterization:
        """A parameterization of these images."""
        image = copy.deepcopy(self.template)
        assert image is not None  # the first have entered
        for i, leaf in enumerate(image.parameters()):
            leaf.data = torch.cat([self.climbs[row].leaves[i] for row in rows])
        return image

    def _goal(self, rows: list[int]) -> Objective:
        if self.goal.n == 1:
            return self.goal.goal(0)
        return per_image([self.goal.goal(i) for i in rows]) if isinstance(self.goal, PerImage) else self.goal.part(rows)

    def _adam(self, leaves: list[nn.Parameter], rows: list[Row]) -> RowAdam:
        optimizer = RowAdam(leaves, self.lr, self.betas)
        if all(rows):
            optimizer.put(rows)
        return optimizer
