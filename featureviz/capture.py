"""A whole step of an ascent as one CUDA graph, replayed: image, views, network, objective, gradient and optimizer."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor

from featureviz.ascent import Ascent
from featureviz.capturable import set_up, why_not
from featureviz.errors import FeaturevizError, InvalidInput

WARM_UP = 3  # steps before a recording: libraries choose their kernels, compilers compile, memory finds its places
WORTH = 32  # steps from which on "auto" captures, since making the graphs takes the time of about ten
TOLERANCE = {False: 1e-2, True: 5e-2}  # of the largest: resampling adds its gradients in any order
# A recording empties the caches of every device as it begins, which must not happen during another one.
_ONE_AT_A_TIME = threading.Lock()


class Uncapturable(InvalidInput):
    """A step that cannot be a CUDA graph; the text names what is in the way."""


@final
class Captured:
    """``ascent.step()`` without Python: recorded in CUDA graphs, replayed by one launch.

    Whatever a step reads or writes stays where it is: leaves, optimizer state, the step that keys the draws, scores,
    and the objective's indices. So every replay draws new views.

    Redirected first steps have a graph of their own, for they are other kernels; eager they would be most of the time
    of a short render. The very first step runs eagerly, since an optimizer makes its state in it. A recording is
    compared with an eager step before it is trusted.

    Numbers of Python are recorded as they are. A change of the optimizer's, but for its learning rate, is not seen; one
    of the network, its interventions, the leaves or the size of the views is at the beginning of :meth:`run`.

    Raises :class:`Uncapturable` with what :func:`~featureviz.capturable.why_not` names.
    """

    def __init__(self, ascent: Ascent) -> None:
        reasons = why_not(ascent)
        if reasons:
            raise Uncapturable(f"the step cannot be captured: {'; '.join(reasons)}")
        self.ascent = ascent
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self._made_for: Any = None
        self._leaves: list[Tensor] = []  # an id is a leaf's own only as long as it lives
        self._capture()

    def step(self) -> None:
        """One step up; no host synchronisation."""
        if self.ascent.steps_done == 0:
            self.ascent.step()
        else:
            self.ascent.pace()
            self._graphs[self.ascent.steps_done < self.ascent.redirect].replay()
            self.ascent.steps_done += 1

    def run(self, steps: int, every: int = 1, on: Callable[[Ascent], None] | None = None) -> None:
        """As :meth:`Ascent.run`."""
        if self._made_for != self._seen():
            self._capture()
        self.ascent.run(steps, every, on, self.step)

    def _seen(self) -> Any:
        """What a step would run on which leaves, on the host's side."""
        a = self.ascent
        network = a.trunk.network(a.size)
        return network, a.size, tuple(a.model.interventions), [id(leaf) for leaf in a.leaves]

    def _capture(self) -> None:
        """Make the graphs; the ascent is left as it was, but that its optimizer can be captured."""
        a = self.ascent
        fresh, done, rate, state = not a.steps_done, a.steps_done, a.rate, None
        a.rate = None  # it would be recorded as it is now
        groups = [dict(group) for group in a.optimizer.param_groups]
        self._graphs.clear()
        kept = [(t, t.detach().clone()) for t in (*a.leaves, a.scores, a.rng.step, a._done, a._failed_at)]
        set_up(a.optimizer, a.model.device)
        if not fresh:
            state = [(t, t.clone()) for s in a.optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
        try:
            with _ONE_AT_A_TIME, torch.cuda.device(a.model.device):
                stream = torch.cuda.Stream()
                for redirect in (True, False) if a.redirect else (False,):
                    self._graphs[redirect] = self._recorded(redirect, stream)
        except BaseException:
            for group, before in zip(a.optimizer.param_groups, groups, strict=True):
                group.update(before)
            if fresh:
                a.optimizer.state.clear()
            raise
        finally:
            with torch.no_grad():
                for tensor, before in [*kept, *(state or [])]:
                    tensor.copy_(before)
            if fresh:
                _renew(a.optimizer)
            a.rng.again()
            a.steps_done, a.rate = done, rate
        self._made_for, self._leaves = self._seen(), [*a.leaves]

    def _recorded(self, redirect: bool, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        """A graph of the redirected step, or of the ordinary one."""
        a, current = self.ascent, torch.cuda.current_stream()
        graph, pool = torch.cuda.CUDAGraph(), next((g.pool() for g in self._graphs.values()), None)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._at(redirect)
                a.step()
        current.wait_stream(stream)
        self._at(redirect)
        for leaf in a.leaves:
            leaf.grad = None  # the recorded one lives in the graph's memory
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                a.step()
        except FeaturevizError:
            raise
        except Exception as error:  # CUDA's, and whatever a network or an objective makes of it
            raise Uncapturable(f"the step cannot be captured: {type(error).__name__}: {error}") from error
        self._compare(graph, redirect)
        return graph

    def _compare(self, graph: torch.cuda.CUDAGraph, redirect: bool) -> None:
        """A replay must give what an eager step gives, views drawn anew."""
        a = self.ascent
        self._at(redirect)
        score, gradients = a._climb(a.objective)
        graph.replay()
        own = [leaf.grad for leaf in a.leaves if leaf.grad is not None]
        for name, given, expected in (("score", [a.scores[0]], [score]), ("gradient", own, gradients)):
            for x, y in zip(given, expected, strict=True):
                limit = TOLERANCE[a.trunk.half] * float(y.abs().nan_to_num().max())
                if not torch.allclose(x, y, rtol=0, atol=limit, equal_nan=True):
                    raise Uncapturable(
                        f"the step cannot be captured: replayed, it gives another {name}; something is decided on the"
                        " host, such as a random number of Python or numpy: draw it from the rng"
                    )

    def _at(self, redirect: bool) -> None:
        """Before step 0, or before an ordinary one whose scores go to the same place."""
        self.ascent.rng.again()
        self.ascent._done.zero_()
        self.ascent.steps_done = 0 if redirect else self.ascent.redirect


def _renew(optimizer: torch.optim.Optimizer) -> None:
    """Let ``optimizer`` start from nothing: what its next step makes for state goes to where the old state is."""
    old = {leaf: dict(state) for leaf, state in optimizer.state.items()}
    if not old:
        return  # it has not made a step since it was made, or since the last time
    optimizer.state.clear()

    def settle(*_: Any) -> None:
        handle.remove()
        for leaf, state in old.items():
            for name, value in optimizer.state[leaf].items():
                place = state.get(name)
                if isinstance(place, Tensor) and isinstance(value, Tensor):
                    optimizer.state[leaf][name] = place.copy_(value)

    handle = optimizer.register_step_post_hook(settle)


def stepper(ascent: Ascent, capture: bool | Literal["auto"] = "auto", steps: int = WORTH) -> Ascent | Captured:
    """What runs ``ascent`` fastest: itself, or captured, with a warning where that was wanted and cannot be.

    ``"auto"`` captures on a CUDA device, if there are enough ``steps`` to make up for it.
    """
    if capture not in (True, False, "auto"):
        raise InvalidInput(f"capture={capture!r} was given; expected True, False or 'auto'")
    if capture is False or (capture == "auto" and (ascent.model.device.type != "cuda" or steps < WORTH)):
        return ascent
    try:
        return Captured(ascent)
    except Uncapturable as error:
        warnings.warn(f"{error}. It runs eagerly.", RuntimeWarning, stacklevel=2)
        return ascent
