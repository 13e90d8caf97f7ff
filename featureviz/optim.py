"""Adam for a batch whose images are of different ages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import final, overload

import torch
from torch import Tensor

from featureviz.errors import InvalidInput

Moments = dict[str, Tensor]
Row = tuple[Moments, ...]


@final
class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) that counts the steps of each row, so that rows can leave a batch and others enter it.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``, ``x <- x - lr m' / (sqrt(v') + eps)``, where
    ``m' = m / (1 - b1^t)``, ``v' = v / (1 - b2^t)`` and t is the row's own count. Rows of one age move as under
    ``torch.optim.Adam``. A step is six passes over a leaf and waits for no device.

    Args:
        params: leaves ``[N, ...]``, one row an image.
        lr: the learning rate; ``param_groups`` may change it between steps, to a device tensor too.
        betas: how fast m and v forget, each in [0,1).
        eps: keeps the quotient finite.

    Raises :class:`~featureviz.errors.InvalidInput` for a leaf without rows and for values out of range.

    >>> leaf = torch.nn.Parameter(torch.zeros(2, 3))
    >>> optimizer = RowAdam([leaf], lr=0.5)
    >>> leaf.grad = torch.tensor([[1.0, -2.0, 0.0], [0.0, 4.0, 1.0]])
    >>> optimizer.step()
    >>> leaf.detach().round(decimals=4).tolist()
    [[-0.5, 0.5, 0.0], [0.0, -0.5, -0.5]]
    >>> [row[0]["step"].item() for row in optimizer.rows()]
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise InvalidInput(
                f"lr={lr}, betas={betas}, eps={eps} were given; expected lr, eps >= 0 and betas in [0,1)"
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        for leaf in self._leaves():
            if leaf.ndim == 0:
                raise InvalidInput("a leaf of no dimension was given; expected one row an image, [N, ...]")

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every leaf that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for leaf in group["params"]:
                if leaf.grad is not None:
                    self._move(leaf, group["lr"], group["betas"], group["eps"])
        return loss

    def rows(self) -> list[Row]:
        """What each row remembers, of each leaf: ``step [1]``, ``exp_avg [1, ...]`` and ``exp_avg_sq [1, ...]``."""
        each = [{k: t.clone().split(1) for k, t in self._state(leaf).items()} for leaf in self._leaves()]
        count = len(each[0]["step"])
        return [tuple({k: parts[i] for k, parts in leaf.items()} for leaf in each) for i in range(count)]

    def put(self, rows: Sequence[Row]) -> None:
        """Row i remembers ``rows[i]``, from :meth:`rows` of this optimizer or another one."""
        for i, leaf in enumerate(self._leaves()):
            if len(rows) != len(leaf) or any(row[i]["exp_avg"].shape[1:] != leaf.shape[1:] for row in rows):
                raise InvalidInput(
                    f"{len(rows)} rows were given for a leaf {list(leaf.shape)}; expected one each, alike"
                )
            for name, mine in self._state(leaf).items():
                mine.copy_(torch.cat([row[i][name] for row in rows]))

    def _move(self, leaf: Tensor, lr: float | Tensor, betas: tuple[float, float], eps: float) -> None:
        state, gradient = self._state(leaf), leaf.grad
        assert gradient is not None
        age, m, v = state["step"].add_(1), state["exp_avg"], state["exp_avg_sq"]
        m.lerp_(gradient, 1 - betas[0])
        v.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        own = (-1, *[1] * (leaf.ndim - 1))
        first, second = (_bias(age, beta).view(own) for beta in betas)
        root = v.sqrt()
        torch.addcmul(first * eps, root, first * second.rsqrt(), out=root)  # first * (sqrt(v / second) + eps)
        if isinstance(lr, Tensor):  # on the device, as a captured step wants it
            leaf.addcmul_(torch.div(m, root, out=root), lr, value=-1)
        else:
            leaf.addcdiv_(m, root, value=-lr)

    def _state(self, leaf: Tensor) -> Moments:
        if leaf not in self.state:
            nothing = torch.zeros_like(leaf).detach()
            self.state[leaf] = {
                "step": torch.zeros(len(leaf), device=leaf.device),
                "exp_avg": nothing,
                "exp_avg_sq": nothing.clone(),
            }
        return self.state[leaf]

    def _leaves(self) -> list[Tensor]:
        return [leaf for group in self.param_groups for leaf in group["params"]]


def _bias(age: Tensor, beta: float) -> Tensor:
    """``1 - beta^age`` to float32's precision, which the difference itself would lose."""
    return -torch.expm1(age * (math.log(beta) if beta else -math.inf))
