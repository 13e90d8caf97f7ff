"""Optimizers, and schedules of their learning rate: one object that an ascent is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from featureviz.checks import entries, finite, show
from featureviz.errors import FeaturevizError, InvalidInput

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[float], float]  # from the share of the steps that are done, 0 to 1, to a learning rate
SLOWEST, FASTEST = 1e-12, 1e6  # learning rates
LONGEST = 1 - 1e-7  # the longest memory of an average


def make_optimizer(make: MakeOptimizer, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of the leaves, which has shown on copies of them that it can make a step.

    Raises ``InvalidInput`` that names the optimizer: it cannot be made, is none of torch's kind, has other parameters
    than the leaves, or its step needs more than the gradients, such as the closure of L-BFGS.

    >>> type(make_optimizer(Adam(0.1), [nn.Parameter(torch.zeros(2))])).__name__
    'Adam'
    """
    if not callable(make):
        raise InvalidInput(
            f"optimizer={show(make)} was given; expected fv.Adam(0.05), or a function such as"
            " lambda leaves: torch.optim.NAdam(leaves, lr=0.1)"
        )
    name = getattr(make, "__name__", None) or show(make)
    trial = [nn.Parameter(leaf.detach()[:1].clone()) for leaf in leaves]  # of one image
    for copy in trial:
        copy.grad = torch.ones_like(copy)
    try:
        tried, optimizer = make(trial), make(list(leaves))
        for made, own in ((tried, trial), (optimizer, leaves)):
            known = {id(leaf) for group in made.param_groups for leaf in group["params"]}
            if not known or not known <= {id(leaf) for leaf in own}:
                raise InvalidInput(f"optimizer={name} optimises other parameters than the leaves it is given")
        tried.step()
    except FeaturevizError:
        raise
    except Exception as error:  # whatever an optimizer raises
        raise InvalidInput(
            f"optimizer={name} makes no step on leaves and their gradients: {type(error).__name__}: {error}; expected"
            " an optimizer whose step needs no closure, such as fv.Adam(0.05)"
        ) from error
    return optimizer


def learning_rate(schedule: Schedule, done: float) -> float:
    """What a schedule gives after this share of the steps, checked."""
    try:
        value = schedule(done)
    except Exception as error:  # of the caller's function
        raise InvalidInput(
            f"the schedule {show(schedule)} fails at {done:g}: {type(error).__name__}: {error}; expected a function"
            " from the share of the steps that are done, 0 to 1, to a learning rate"
        ) from error
    return finite(f"the learning rate of {show(schedule)} at {done:g}", value, 0, FASTEST)


@final
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015); with the usual ``betas`` it is what Lucid uses.

    Args:
        lr: the learning rate, or a schedule: a function from the share of the steps that are done, 0 to 1, to it.
        betas: how much of the averages of gradients and of their squares stays from step to step.

    >>> Adam(0.1).schedule is None, Adam(LinearCooldown(0.1)).schedule
    (True, LinearCooldown(lr=0.1, share=0.25, end=0.2))
    """

    lr: float | Schedule = 0.05
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        betas = tuple(finite(f"betas[{i}]", beta, 0, LONGEST) for i, beta in enumerate(entries("betas", self.betas, 2)))
        object.__setattr__(self, "betas", betas)
        if not callable(self.lr):
            object.__setattr__(self, "lr", finite("lr", self.lr, SLOWEST, FASTEST))

    def __call__(self, leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
        lr = learning_rate(self.lr, 0.0) if callable(self.lr) else self.lr
        fused = leaves[0].device.type in ("cpu", "cuda")
        return torch.optim.Adam(leaves, lr=lr, betas=self.betas, fused=fused)

    @property
    def schedule(self) -> Schedule | None:
        """Of the learning rate, where it changes."""
        return self.lr if callable(self.lr) else None


@final
@dataclass(frozen=True)
class Scheduled:
    """Any optimizer with a schedule of its learning rate.

    >>> nadam = Scheduled(lambda leaves: torch.optim.NAdam(leaves, lr=1.0), LinearCooldown(1.0, share=1.0, end=0.05))
    >>> round(nadam.schedule(1.0), 3)
    0.05
    """

    make: MakeOptimizer
    schedule: Schedule

    def __post_init__(self) -> None:
        for name in ("make", "schedule"):
            if not callable(getattr(self, name)):
                raise InvalidInput(f"{name}={show(getattr(self, name))} was given; expected a function")

    def __repr__(self) -> str:
        """Functions are written by their names: an address would differ from run to run."""
        made, schedule = (getattr(part, "__name__", None) or repr(part) for part in (self.make, self.schedule))
        return f"Scheduled({made}, {schedule})"

    def __call__(self, leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
        return self.make(leaves)


@final
@dataclass(frozen=True)
class LinearCooldown:
    """A learning rate that stays at ``lr`` and falls in a straight line to ``end * lr`` over the last ``share``.

    It is called with the share of the steps that are done, 0 to 1.

    >>> cooldown = LinearCooldown(0.1, share=0.5, end=0.2)
    >>> cooldown(0.0), cooldown(0.5), round(cooldown(0.75), 3), round(cooldown(1.0), 3)
    (0.1, 0.1, 0.06, 0.02)
    """

    lr: float
    share: float = 0.25
    end: float = 0.2

    def __post_init__(self) -> None:
        for name, least, most in (("lr", SLOWEST, FASTEST), ("share", 1e-6, 1), ("end", 0, 1)):
            object.__setattr__(self, name, finite(name, getattr(self, name), least, most))

    def __call__(self, done: float) -> float:
        fallen = max(0.0, done - (1 - self.share)) / self.share
        return self.lr * (1 - (1 - self.end) * fallen)
