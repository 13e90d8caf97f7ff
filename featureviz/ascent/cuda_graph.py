"""A whole step of an ascent as a CUDA graph, replayed: image, views, network, objective, gradient and optimizer."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor

from featureviz.ascent.ascent import Ascent
from featureviz.ascent.capturable import set_up, why_not
from featureviz.errors import FeaturevizError, InvalidInput

WARM_UP = 3  # steps before a recording: libraries choose their kernels, compilers compile, memory finds its places
WORTH = 32  # steps from which on "auto" captures: recording takes as long as ten to twenty eager steps
TOLERANCE = {False: 1e-2, True: 5e-2}  # of the largest number: resampling adds its gradients in any order
# A recording empties the caches of every device when it begins, which must not happen during another one.
_ONE_AT_A_TIME = threading.Lock()


class Uncapturable(InvalidInput):
    """A step that cannot be a CUDA graph; the text names what is in the way."""


@final
class CudaGraphStep:
    """``ascent.step()`` without Python: recorded in CUDA graphs, replayed by one launch.

    All that a step reads or writes stays in its place on the device: leaves, optimizer state, scores, and the step that
    decides the random views. So every replay draws new views. Steps with redirected gradients run other kernels than
    those after them, and so do steps before and after a transform's end: each such phase has a graph of its own. The
    very first step runs eagerly, since an optimizer makes its state in it. A recording is compared with an eager step
    before it is used.

    Numbers of Python are recorded: a later change of an optimizer's option has no effect, except of its learning rate.

    Raises ``Uncapturable`` with what ``why_not`` names.
    """

    def __init__(self, ascent: Ascent) -> None:
        reasons = why_not(ascent)
        if reasons:
            raise Uncapturable(f"the step cannot be captured: {'; '.join(reasons)}")
        self.ascent = ascent
        self._graphs: dict[tuple[bool, tuple[int, ...]], torch.cuda.CUDAGraph] = {}
        self._capture()

    def step(self) -> None:
        """One step up; no host synchronisation."""
        if self.ascent.steps_done == 0:
            self.ascent.step()
        else:
            self.ascent.set_lr()
            self._graphs[self.ascent.phase].replay()
            self.ascent.steps_done += 1

    def run(self, steps: int, every: int = 1, on: Callable[[Ascent], None] | None = None) -> None:
        """As ``Ascent.run``."""
        self.ascent.run(steps, every, on, self.step)

    def _capture(self) -> None:
        """Make the graphs. The ascent is left as it was, but for its optimizer, which can be captured now."""
        a = self.ascent
        fresh, done, schedule, state = not a.steps_done, a.steps_done, a.schedule, list[tuple[Tensor, Tensor]]()
        a.schedule = None  # the learning rate would be recorded as it is now
        groups = [dict(group) for group in a.optimizer.param_groups]
        kept = [(t, t.detach().clone()) for t in (*a.leaves, a.scores, a.rng.step, a.done, a.failed_at)]
        kept += [] if a.slope is None else [(a.slope, a.slope.clone())]
        set_up(a.optimizer, a.model.device)
        if not fresh:
            state = [(t, t.clone()) for s in a.optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
        try:
            with _ONE_AT_A_TIME, torch.cuda.device(a.model.device):
                stream = torch.cuda.Stream()
                for phase, first in self._phases().items():
                    self._graphs[phase] = self._recorded(first, stream)
        except BaseException:
            for group, before in zip(a.optimizer.param_groups, groups, strict=True):
                group.update(before)
            if fresh:
                a.optimizer.state.clear()
            raise
        finally:
            with torch.no_grad():
                for tensor, before in [*kept, *state]:
                    tensor.copy_(before)
            if fresh:
                _forget_state(a.optimizer)
            a.rng.restart()
            a.steps_done, a.schedule = done, schedule

    def _phases(self) -> dict[tuple[bool, tuple[int, ...]], int]:
        """The phases of the whole ascent, each with its first step."""
        a, phases = self.ascent, dict[tuple[bool, tuple[int, ...]], int]()
        for step in range(len(a.scores)):
            a.steps_done = step
            phases.setdefault(a.phase, step)
        return phases

    def _recorded(self, first: int, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        """A graph of the steps of the phase that begins with step ``first``."""
        a, current = self.ascent, torch.cuda.current_stream()
        graph, pool = torch.cuda.CUDAGraph(), next((g.pool() for g in self._graphs.values()), None)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._rewind(first)
                a.step()
        current.wait_stream(stream)
        self._rewind(first)
        for leaf in a.leaves:
            leaf.grad = None  # the recorded one lives in the graph's memory
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                a.step()
        except FeaturevizError:
            raise
        except Exception as error:  # CUDA's, and whatever a network or an objective makes of it
            raise Uncapturable(f"the step cannot be captured: {type(error).__name__}: {error}") from error
        self._compare(graph, first)
        return graph

    def _compare(self, graph: torch.cuda.CUDAGraph, first: int) -> None:
        """A replay must give what an eager step gives, views drawn anew."""
        a = self.ascent
        self._rewind(first)
        score, gradients = a.score_and_gradient()
        graph.replay()
        own = [leaf.grad for leaf in a.leaves if leaf.grad is not None]
        for name, given, expected in (("score", [a.scores[0]], [score]), ("gradient", own, gradients)):
            for x, y in zip(given, expected, strict=True):
                limit = TOLERANCE[a.executor.half] * float(y.abs().nan_to_num().max())
                if not torch.allclose(x, y, rtol=0, atol=limit, equal_nan=True):
                    raise Uncapturable(
                        f"the step cannot be captured: replayed, it gives another {name}; something is decided on the"
                        " host, such as a random number of Python or numpy: draw it from the rng"
                    )

    def _rewind(self, first: int) -> None:
        """Go to before step ``first``; its scores and its random numbers are those of step 0."""
        self.ascent.rng.restart()
        self.ascent.done.zero_()
        self.ascent.steps_done = first


def _forget_state(optimizer: torch.optim.Optimizer) -> None:
    """Let ``optimizer`` start from nothing: the state that its next step makes goes to where the old state is."""
    old = {leaf: dict(state) for leaf, state in optimizer.state.items()}
    if not old:
        return  # it has not made a step since it was made
    optimizer.state.clear()

    def settle(*_: Any) -> None:
        handle.remove()
        for leaf, state in old.items():
            for name, value in optimizer.state[leaf].items():
                place = state.get(name)
                if isinstance(place, Tensor) and isinstance(value, Tensor):
                    optimizer.state[leaf][name] = place.copy_(value)

    handle = optimizer.register_step_post_hook(settle)


def stepper(ascent: Ascent, capture: bool | Literal["auto"], steps: int = WORTH) -> Ascent | CudaGraphStep:
    """What runs ``ascent`` fastest: itself, or captured, with a warning where that was wanted and cannot be.

    ``"auto"`` captures on a CUDA device, if there are enough ``steps`` to make up for it.
    """
    if capture is False or (capture == "auto" and (ascent.model.device.type != "cuda" or steps < WORTH)):
        return ascent
    try:
        return CudaGraphStep(ascent)
    except Uncapturable as error:
        warnings.warn(f"{error}. It runs eagerly.", RuntimeWarning, stacklevel=2)
        return ascent
