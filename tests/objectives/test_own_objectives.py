"""Functions under @objective and own classes: their specs hold every argument, and ``parse`` makes them again."""

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
import objectives_zoo as zoo
from featureviz.errors import InvalidInput, SpecError


@fv.objective
def scaled(a: Tensor, unit: int, *more: Any, power: float = 1.0, mode: str = "mean", **options: Any) -> Tensor:
    """Every kind of parameter."""
    score = a[:, unit].flatten(1).mean(1) * power
    return score + sum(torch.as_tensor(m).float().sum() for m in more) + len(mode) + len(options)


class Unit(fv.Objective):
    """A class that gives no spec of its own."""

    def __init__(self, layer: str, unit: int, *, power: float = 1.0, note: Any = None) -> None:
        super().__init__([layer])
        self.unit, self.power = unit, power

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations[self.layers[0]][:, self.unit].flatten(1).mean(1) ** self.power


class Mixture(fv.Objective):
    """A class that is made of other objectives."""

    def __init__(self, *parts: fv.Objective, weights: Any = None, **names: Any) -> None:
        super().__init__([layer for part in parts for layer in part.layers], n=max(part.n for part in parts))
        self.parts, self.weights = nn.ModuleList(parts), weights or [1.0] * len(parts)

    def forward(self, activations: fv.Activations) -> Tensor:
        return sum((w * p(activations) for w, p in zip(self.weights, self.parts, strict=True)), torch.zeros(3))


class Along(fv.Objective):
    """A class that takes a tensor."""

    def __init__(self, layer: str, direction: Tensor) -> None:
        super().__init__([layer])
        self.direction = nn.Buffer(direction)

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations[self.layers[0]].flatten(2).mean(2) @ self.direction


FUNCTIONS = {
    "scaled": scaled, "Unit": Unit, "Mixture": Mixture, "Along": Along, "diversity": zoo.Diversity,
    "alignment": zoo.Alignment, "l1": zoo.l1, "l2": zoo.l2, "total_variation": zoo.total_variation,
    "boundary_complexity": zoo.boundary_complexity, "sparse_channel": zoo.sparse_channel,
}  # fmt: skip
A, B = fv.Channel("conv", 1), fv.Channel("conv", [0, 1, 2])
GOALS = {
    "scaled(conv, 3, power=1.0, mode=\"mean\")": scaled("conv", 3),
    "scaled(conv, 3, [1, 2.5], True, power=-2, mode=\"a \\\"b\\\"\", z=None)": scaled(
        "conv", 3, [1, 2.5], True, power=-2, mode='a "b"', z=None
    ),
    "scaled(\"0\", 3, tensor([0.1, 1e-07]), power=1e-300, mode=\"\")": scaled(
        "0", 3, torch.tensor([0.1, 1e-7]), power=1e-300, mode=""
    ),
    "scaled(conv, 3, power=2, mode=\"[1, 2](\")": scaled("conv", np.int64(3), power=np.int8(2), mode="[1, 2]("),  # pyright: ignore
    "scaled(conv, 3, 0.5, power=1.0, mode=\"mean\")": scaled("conv", torch.tensor(3), np.float32(0.5)),
    "Unit(conv, 17, power=1.0, note=None)": Unit("conv", 17),
    "Unit(conv, 18, power=1.0, note=None)": Unit("conv", 18),
    "Unit(\"conv-1\", 3, power=2.0, note=[\"a, b)\", [False], []])": Unit(
        "conv-1", 3, power=2.0, note=["a, b)", (False,), []]
    ),
    "Unit(\"True\", 3, power=1.0, note=\"gate\")": Unit("True", 3, note="gate"),
    "Along(conv, tensor([0.5, -1.0, 0.0]))": Along("conv", torch.tensor([0.5, -1.0, 0.0])),
    "Mixture(conv:1, weights=None)": Mixture(A),
    "Mixture(2*conv:1 - (1), Unit(conv, 3, power=1.0, note=None), weights=[0.5, 2])": Mixture(
        2 * A - 1, Unit("conv", 3), weights=[0.5, 2]
    ),
    "Mixture(conv:[0, 1, 2], ([conv:1, -conv:1, conv:1]), weights=None)": Mixture(B, fv.PerImage([A, -A, A])),
    "Mixture(conv:1*conv:1, weights=None, z=[conv:1, logit:\"a\"])": Mixture(A * A, z=[A, fv.Logit("a")]),
    "diversity(conv)": zoo.Diversity("conv"),
    "alignment(\"conv-1\", 4, 2.0)": zoo.Alignment("conv-1"),
    "l1(conv, 0.25)": zoo.l1("conv", centre=0.25),
    "l2(conv, 0.5, 1e-06)": zoo.l2("conv"),
    "total_variation(input)": zoo.total_variation("input"),
    "boundary_complexity(conv, 1, 0.5)": zoo.boundary_complexity("conv", 1),
    "sparse_channel(conv, 3, 0.1)": zoo.sparse_channel("conv", 3),
}  # fmt: skip


@pytest.fixture
def acts() -> fv.Activations:
    g = torch.Generator().manual_seed(0)
    names = ("conv", "conv-1", "0", "True", "input", "output")
    return fv.Activations({name: torch.randn(3, 24, 6, 6, generator=g).abs() for name in names}, fv.Rows.make(3))


@pytest.mark.parametrize(("spec", "goal"), GOALS.items(), ids=GOALS)
def test_a_spec_holds_every_argument_and_reads_back(spec: str, goal: fv.Objective, acts: fv.Activations) -> None:
    assert repr(goal) == spec
    if "Along" in spec:
        acts = fv.Activations({"conv": acts["conv"][:, :3]}, acts.rows)
    for whole in (goal, -2 * goal + 1, goal * goal):
        again = fv.parse(repr(whole), FUNCTIONS)
        for twin in (again, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), copy.deepcopy(again)):
            assert repr(twin) == repr(whole)
            assert (twin.layers, twin.n, twin.across_batch) == (whole.layers, whole.n, whole.across_batch)
            assert torch.equal(twin(acts), whole(acts))
            assert not hasattr(twin, "__dict__") or "_call" not in twin.__dict__


def test_other_names_and_functions_that_give_objectives() -> None:
    goal = fv.parse("mine(conv, 3) + series(conv:1, -conv:2, 2)", {"mine": scaled, "series": zoo.interpolation})
    assert repr(goal) == 'scaled(conv, 3, power=1.0, mode="mean") + [conv:1, -conv:2]'
    assert repr(fv.parse(repr(goal), {"mine": scaled})) == repr(goal)
    half = functools.partial(Unit, power=0.5)
    assert repr(fv.parse("half(conv, 3)", {"half": half})) == "Unit(conv, 3, power=0.5, note=None)"


def test_what_text_cannot_hold_is_named_and_told_apart() -> None:
    one, two = Along("conv", torch.arange(100.0)), Along("conv", torch.arange(100.0) + 1)
    assert repr(one).startswith("Along(conv, <float32[100] ")
    assert repr(one) == repr(Along("conv", torch.arange(100.0)))
    notes = ({"a": 1}, {"a": 2}, {"a": torch.ones(3)}, {"a": torch.zeros(3)}, len, nn.ReLU(), np.arange(100), {1, 2})
    specs = [repr(one), repr(two), *(repr(Unit("conv", 3, note=note)) for note in notes)]
    assert len(set(specs)) == len(specs)
    assert specs[2:] == [repr(Unit("conv", 3, note=copy.deepcopy(note))) for note in notes]
    for spec in specs:
        with pytest.raises(SpecError, match="make this objective in Python"):
            fv.parse(spec, FUNCTIONS)


def test_errors_of_own_code_mark_the_call() -> None:
    def crash(*_args: Any) -> fv.Objective:
        raise ZeroDivisionError("division by zero")

    functions: Any = {**FUNCTIONS, "crash": crash, "number": lambda: 3, "self": lambda **_k: A, "five": 5}
    for text, message in {
        "2*crash(conv)": "crash: ZeroDivisionError: division by zero",
        "2*number()": "number gave 3; expected an objective",
        "2*five(1)": "TypeError",
        "2*Unit(conv)": "missing a required argument: 'unit'; it is called as Unit(layer: str, unit: int, ",
        "2*Unit(conv, 3, powr=2)": "powr",
        "2*Unit(0, 3)": "expected a list of names in quotes",
        "2*scaled(3, 3)": "expected its name in quotes",
        "2*scaled(conv, 3, conv:1 +)": "expected an objective",
        "2*Along(conv, tensor(3, 4))": "expected ')'",
        "2*Along(conv, tensor([[1], 2]))": "expected numbers in lists of equal length",
    }.items():
        with pytest.raises(SpecError) as caught:
            fv.parse(text, functions)
        assert message in str(caught.value), text
    assert fv.parse("self(self=1, start=2, make=3)", {"self": lambda **_k: A}) is A


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), torch.tensor(float("inf")), 10**400])
def test_arguments_that_are_not_finite_are_an_error(value: Any) -> None:
    for make in (lambda: scaled("conv", 3, power=value), lambda: Unit("conv", 3, note=[value])):
        with pytest.raises(InvalidInput, match="expected a finite number"):
            make()


def test_wrong_uses_are_explained() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for make, message in (
        (lambda: scaled(3, 3), "expected its name in quotes"),  # pyright: ignore[reportArgumentType]
        (lambda: scaled("conv"), "missing a required argument: 'unit'"),
        (lambda: scaled("conv", 3, loop), "holds itself"),
        (lambda: fv.objective(3), "expected a function"),  # pyright: ignore[reportArgumentType]
        (lambda: fv.objective(functools.partial(scaled)), "expected a function"),
        (lambda: Unit(["a"], 3), "expected a list of names"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(InvalidInput, match=message):
            make()
