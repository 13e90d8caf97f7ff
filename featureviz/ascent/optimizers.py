"""Optimizers, and schedules of their learning rate: one object that an ascent is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from featureviz.errors import InvalidInput

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[float], float]  # from the share of the steps that are done, 0 to 1, to a learning rate


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
        if not callable(self.lr) and not self.lr > 0:
            raise InvalidInput(f"lr={self.lr} was given; expected a positive number, or a schedule")

    def __call__(self, leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
        lr, fused = self.lr(0.0) if callable(self.lr) else self.lr, leaves[0].device.type in ("cpu", "cuda")
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
        if not (self.lr > 0 and 0 < self.share <= 1 and 0 <= self.end <= 1):
            raise InvalidInput(f"{self} was given; expected lr > 0, share in (0, 1], end in [0, 1]")

    def __call__(self, done: float) -> float:
        fallen = max(0.0, done - (1 - self.share)) / self.share
        return self.lr * (1 - (1 - self.end) * fallen)
