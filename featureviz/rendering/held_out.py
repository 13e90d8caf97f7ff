"""Scores of images on views that no ascent has used."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.ascent.microbatch import Microbatch, halved, microbatches
from featureviz.checks import SEEDS, VIEWS, whole
from featureviz.errors import InvalidInput, out_of_memory
from featureviz.image.picture import Picture, check_pictures, cover
from featureviz.network.activations import Activations
from featureviz.network.in_force import check_batch, interventions_across_batch
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import Gate, GatedChannel, GateValue
from featureviz.objectives.goals import Goal, as_objective, network_layers, prepare, score_views
from featureviz.objectives.quadrant import GateContrast, Quadrant
from featureviz.rng import HELD_OUT, Rng, number_images
from featureviz.transform import Pipeline
from featureviz.transform.unseen import unseen

CHUNK = 64  # views in one forward


@final
@dataclass(frozen=True)
class HeldOut:
    """Scores ``[V,N]`` of N images on V new random views; and gate values, where the goal of an image has gates.

    ``gates[i]`` and ``logits[i]`` map the spec of each gate in the goal of image i to its values ``[V]``. ``unseen``
    has the scores on views of kinds that no ascent uses, each a mean ``[N]``: ``"jpeg"`` (quality 75), ``"blur"`` (of
    one pixel), and ``"crop"`` (of 0.6 to 0.85 of the side).
    """

    scores: Tensor
    gates: tuple[dict[str, Tensor], ...]
    logits: tuple[dict[str, Tensor], ...]
    unseen: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def empty(cls, n: int) -> HeldOut:
        """Of ``n`` images that were not judged: on no views."""
        return cls(torch.zeros(0, n, dtype=torch.float32, device="cpu"), ({},) * n, ({},) * n)


@own_surroundings
def evaluate(
    model: TappedModel,
    objective: Goal,
    images: Picture,
    *,
    draws: int = 16,
    transforms: Iterable[nn.Module] | None = None,
    seed: int = 0,
    image_ids: Iterable[int] | None = None,
) -> HeldOut:
    """Score ``images`` ``[N,C,H,W]`` in [0,1] on ``draws`` random views of each that no ascent has used.

    Args:
        model: the network.
        objective: an objective, a spec, or a list of either, one an image.
        images: what is scored; one ``[C,H,W]`` too. A tensor with one channel more than the network has alpha as its
            last channel, and is laid over random backgrounds.
        draws: random views of each image.
        transforms: of the views; ``fv.transform.robust()`` if left out, whatever the images were made with, so that
            scores can be compared.
        seed: of the views.
        image_ids: the number of each image, which with the seed decides its views; 0, 1, 2... if left out.

    A few views go through the network at once, and fewer where memory is full.

    >>> import featureviz as fv
    >>> evaluate(fv.load("embedded"), "features.6:3", torch.rand(2, 3, 96, 96)).scores.shape
    torch.Size([16, 2])
    """
    model, objective = tapped(model), prepare(as_objective(objective), model)
    alpha = isinstance(images, Tensor) and images.ndim in (3, 4) and images.shape[-3] == model.channels + 1
    images, draws = check_pictures(images, model.channels + alpha), whole("draws", draws, 1, VIEWS)
    n, ids = len(images), number_images(len(images), image_ids)
    if objective.n not in (1, n):
        raise InvalidInput(f"the objective {objective.spec} describes {objective.n} images; {n} were given")
    check_batch(model.key, n)
    seed = whole("seed", seed, *SEEDS)
    own = Pipeline(transforms, alpha=alpha).to(model.device)
    held_out = _Judge(model, objective, images, own).judge(seed, ids, draws)
    kinds = dict[str, Tensor]()
    for name, kind in unseen().items():
        pipeline = Pipeline(kind.transforms, alpha=alpha).to(model.device)
        judge = _Judge(model, objective, kind.change(images), pipeline, scores_only=True)
        kinds[name] = judge.judge(seed, ids, kind.views).scores.mean(0)
    return replace(held_out, unseen=kinds)


def evaluate_made(
    model: TappedModel, objective: Goal, images: Tensor, **options: Any
) -> tuple[HeldOut, KeyboardInterrupt | None]:
    """``evaluate`` for images that an ascent has made, which nothing here may lose; and the Ctrl-C that ended it.

    After Ctrl-C, or an error, which becomes a warning, there are no scores.
    """
    try:
        return evaluate(model, objective, images, **options), None
    except KeyboardInterrupt as stop:
        return HeldOut.empty(len(images)), stop
    except Exception as error:  # whatever the network, the objective or a transform raises
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"the images could not be scored on held-out views: {reason}", RuntimeWarning, stacklevel=2)
        return HeldOut.empty(len(images)), None


@final
@dataclass(frozen=True)
class _Judge:
    """Scores images on views, part by part."""

    model: TappedModel
    objective: Objective
    images: Tensor
    pipeline: Pipeline
    scores_only: bool = False

    def judge(self, seed: int, ids: list[int], draws: int) -> HeldOut:
        """Scores on ``draws`` views of each image, a few views at a time, and fewer where memory is full."""
        model, n = self.model, len(self.images)
        rng = Rng(seed, ids, draws, model.device, step=HELD_OUT)
        together = self.objective.across_batch or interventions_across_batch(model.key)
        at_once = (n, draws) if together else (max(1, CHUNK // draws), min(draws, CHUNK))
        while True:
            try:
                return self._judge_all(microbatches(rng, n, *at_once, model.device))
            except Exception as error:
                smaller = None if together else halved(*at_once)
                if not out_of_memory(error) or smaller is None:
                    raise
            at_once = smaller
            if model.device.type == "cuda":
                torch.cuda.empty_cache()  # after the except: the error's traceback holds on to tensors

    @torch.no_grad()
    def _judge_all(self, parts: list[Microbatch]) -> HeldOut:
        n, draws = len(self.images), parts[-1].views.stop
        scores = torch.zeros(n, draws, dtype=torch.float32, device="cpu")
        read: list[dict[Gate, list[tuple[Tensor, Tensor]]]] = [
            {gate: [] for gate in (() if self.scores_only else _find_gates(self.objective.select([i])))}
            for i in range(n)
        ]
        for part in parts:
            numbers, views = range(part.images.start, part.images.stop), part.rows.views
            goals = [list(read[i]) for i in numbers]
            activations, score = self._score(part, goals)
            scores[part.images, part.views] = score.view(-1, views).cpu()
            for i, own in zip(numbers, activations.per_image(), strict=True):
                for gate, values in read[i].items():
                    values.append((gate.value(own).float().cpu(), gate(own).float().cpu()))
        gates, logits = (
            tuple({gate.spec: torch.cat([v[k] for v in values]) for gate, values in of.items()} for of in read)
            for k in (0, 1)
        )
        return HeldOut(scores.T.contiguous(), gates, logits)

    def _score(self, part: Microbatch, goals: list[list[Gate]]) -> tuple[Activations, Tensor]:
        images, size = self.images[part.images].to(self.model.device), self._size
        views = self.pipeline(images, part.rng.restart(), size)
        read = [layer for goal in goals for gate in goal for layer in (*gate.layers, gate.value_layer)]
        layers = tuple(dict.fromkeys([*network_layers(self.objective, self.pipeline.alpha), *read]))
        rows = replace(part.rows, see=partial(self._see, part, (images.shape[-2], images.shape[-1])))
        activations = self.model(views, layers, rows)
        if self.pipeline.alpha:
            activations = activations.with_alpha(images[:, -1:].repeat_interleave(part.rows.views, 0))
        score = score_views(self.objective, activations)
        if not bool(score.isfinite().all()):
            self.pipeline.check(images, part.rng.restart(), size)  # names a transform that is the reason
        return activations, score

    def _see(self, part: Microbatch, size: tuple[int, int], pictures: Tensor, images: slice) -> Activations:
        rng, rows = part.select(images)
        layers = network_layers(self.objective, self.pipeline.alpha)
        return self.model(self.pipeline.show(cover(pictures, size), rng, self._size), layers, rows)

    @property
    def _size(self) -> tuple[int, int]:
        return self.model.input_size((self.images.shape[-2], self.images.shape[-1]))


def _find_gates(goal: Objective) -> list[Gate]:
    """The gates that an objective is about."""
    leaves = [
        leaf for leaf in goal.leaves() if isinstance(leaf, (Gate, GateValue, GateContrast, GatedChannel, Quadrant))
    ]
    return [Gate(leaf.site_name, leaf.units[0] if leaf.n == 1 else leaf.units) for leaf in leaves]
