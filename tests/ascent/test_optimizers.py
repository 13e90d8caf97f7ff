"""Optimizers of the caller's: they work, or an error names them before the first step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.ascent.optimizers import learning_rate, make_optimizer
from featureviz.errors import InvalidInput


def leaves_of(n: int = 2) -> list[nn.Parameter]:
    return [nn.Parameter(torch.rand(n, 3, 4)), nn.Parameter(torch.rand(n, 5))]


class NeedsClosure(torch.optim.SGD):
    """As optimizers that look sharper: a step looks at the loss twice."""

    def step(self, closure: Any = None) -> None:
        assert closure is not None, "a closure is needed"


class Unrelated:
    """No optimizer of torch's kind."""

    def __init__(self, leaves: list[nn.Parameter]) -> None:
        self.leaves = leaves

    def step(self) -> None: ...


WORKING: dict[str, Callable[..., Any]] = {
    "adam": fv.Adam(0.1),
    "scheduled": fv.Scheduled(lambda leaves: torch.optim.NAdam(leaves, lr=0.1), fv.LinearCooldown(0.1)),
    "sgd": torch.optim.SGD,
    "rmsprop": lambda leaves: torch.optim.RMSprop(leaves, lr=0.1, momentum=0.5),
    "some of the leaves": lambda leaves: torch.optim.AdamW(leaves[:1]),
    "groups": lambda leaves: torch.optim.RMSprop([{"params": leaves[:1], "lr": 0.1}, {"params": leaves[1:]}]),
}


@pytest.mark.parametrize("name", WORKING)
def test_optimizers_are_made_and_the_leaves_stay(name: str) -> None:
    leaves = leaves_of()
    before = [leaf.detach().clone() for leaf in leaves]
    optimizer = make_optimizer(WORKING[name], leaves)
    assert all(torch.equal(leaf, old) for leaf, old in zip(leaves, before, strict=True))
    assert all(leaf.grad is None for leaf in leaves)
    assert not optimizer.state
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    assert not torch.equal(leaves[0], before[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torch.optim.LBFGS, "optimizer=LBFGS makes no step.*closure"),
        (NeedsClosure, "optimizer=NeedsClosure makes no step.*a closure is needed"),
        (Unrelated, "optimizer=Unrelated makes no step.*param_groups"),
        (lambda leaves: None, "optimizer=<lambda> makes no step.*NoneType"),
        (lambda: None, "optimizer=<lambda> makes no step.*argument"),
        (lambda leaves: torch.optim.SGD(leaves, lr=-1), "optimizer=<lambda> makes no step.*Invalid learning rate"),
        (lambda leaves: torch.optim.Adam([torch.zeros(1)]), "other parameters than the leaves"),
        (lambda leaves: torch.optim.Adam([*leaves, torch.zeros(1)]), "other parameters than the leaves"),
        (torch.optim.SGD([torch.zeros(1)]), r"optimizer=.* was given; expected fv\.Adam\(0\.05\), or a function"),
        ("adam", "optimizer='adam' was given"),
        (0.05, "optimizer=0.05 was given"),
        (None, "optimizer=None was given"),
    ],
)
def test_what_is_no_optimizer_is_named(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_optimizer(make, leaves_of())


@pytest.mark.parametrize("given", [None, "fast", torch.nan, -0.1, 1e9, [0.1], True])
def test_a_schedule_gives_numbers(given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"the learning rate of .* at 0\.5="):
        learning_rate(lambda done: given, 0.5)
    with pytest.raises(InvalidInput, match="the learning rate of"):
        make_optimizer(fv.Adam(lambda done: given), leaves_of())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.Adam(betas=0.9), "betas=0.9"),
        (lambda: fv.Adam(betas=(0.9,)), "betas="),
        (lambda: fv.Adam(betas=(0.9, 1.0)), r"betas\[1\]=1.0"),
        (lambda: fv.Scheduled(fv.Adam(), 0.1), "schedule=0.1"),
        (lambda: fv.Scheduled("adam", fv.LinearCooldown(0.1)), "make='adam'"),
        (lambda: fv.LinearCooldown(0), "lr=0"),
        (lambda: fv.Runtime(precision="float16"), "precision='float16' was given; expected 'float32' or 'bfloat16'"),
        (lambda: fv.Runtime(precision=torch.bfloat16), "precision=torch.bfloat16"),
        (lambda: fv.Runtime(compile="yes"), "compile='yes'"),
        (lambda: fv.Runtime(compile=1), "compile=1"),
        (lambda: fv.Runtime(capture=3), "capture=3"),
        (lambda: fv.Runtime(capture=None), "capture=None"),
        (lambda: fv.Runtime(redirect=1.5), "redirect=1.5"),
        (lambda: fv.Runtime(redirect=-1), "redirect=-1"),
    ],
)
def test_options_are_checked_where_they_are_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
