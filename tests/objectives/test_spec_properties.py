"""Random texts and random objectives: no text crashes the parser, and every objective's text reads back."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import featureviz as fv
from featureviz.errors import SpecError


@fv.objective
def share(a: Tensor, unit: Any = 0, *more: Any, scale: Any = 1.0) -> Tensor:
    """A function whose arguments may be anything."""
    return a.flatten(1).mean(1) + len(repr((unit, more, scale)))


class Weighted(fv.Objective):
    """A class whose argument is an objective."""

    def __init__(self, inner: fv.Objective, weight: float = 1.0, *, notes: Any = None) -> None:
        super().__init__(inner.layers, n=inner.n)
        self.inner, self.weight = inner, weight

    def forward(self, activations: fv.Activations) -> Tensor:
        return self.weight * self.inner(activations)

    def select(self, images: Sequence[int]) -> fv.Objective:
        return Weighted(self.inner.select(images), self.weight)


FUNCTIONS = {"share": share, "Weighted": Weighted}
quick = settings(max_examples=120, derandomize=True, deadline=None, database=None)
many = settings(quick, max_examples=400)

letters = "ab01.:+-*/()[],@^\"\\ =<'{}e³层٣\n\0\ud800"
words = st.text(letters, max_size=6)
names = st.sampled_from(["a", "b.c", "0", "1e5", "conv-1", "gate", "gate:x", '3"x3', "direction", "input"]) | words
units = st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=4, max_size=4) | st.just(range(0, 10, 3))
numbers = st.floats(-1e30, 1e30) | st.integers(-9, 9) | st.sampled_from([1e-300, 5e-324, -1e30, 0.1, 1 / 3])
small = st.floats(width=32, allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
leaves = st.one_of(
    st.builds(fv.Channel, names, units),
    st.builds(fv.Neuron, names, units),
    st.builds(fv.Neuron, names, units, st.integers(0, 4), st.integers(0, 4)),
    st.builds(fv.Gate, names, units),
    st.builds(fv.Bottleneck, names, units),
    st.builds(fv.DeepDream, names),
    st.builds(fv.Logit, st.integers(0, 9) | names | st.lists(st.integers(0, 9) | names, min_size=4, max_size=4)),
    st.builds(fv.Direction, names, st.lists(small, min_size=10, max_size=10), numbers),
    st.builds(share, names, values, values, scale=values),
)


def combine(inner: st.SearchStrategy[fv.Objective]) -> st.SearchStrategy[fv.Objective]:
    single = inner.map(lambda goal: goal.select([0]))
    weights = st.floats(-1e3, 1e3)
    return st.one_of(
        st.builds(lambda a, b, w: a + w * b, inner, inner, weights),
        st.builds(lambda a, b: a * b - b, inner, inner),
        st.builds(lambda a, w: w - a, inner, weights),
        st.builds(fv.PerImage, st.lists(single, min_size=4, max_size=4)),
        st.builds(Weighted, inner, weights, notes=values | st.lists(inner, max_size=2)),
    )


objectives = st.recursive(leaves, combine, max_leaves=5)
pieces = [
    *'ab01.:+-*/()[],@^"\\ =<e³\n',
    "gate:",
    "logit:",
    "direction:",
    "share(",
    "Weighted(",
    "tensor(",
    "[0:8]",
    "a:1",
]
texts = st.lists(st.sampled_from(pieces), max_size=16).map("".join)


class Anything(fv.Activations):
    """Activations of any layer."""

    def __getitem__(self, name: str) -> Tensor:
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        return torch.randn(4, 10, *([] if name == "output" else [5, 5]), generator=generator)


def score(goal: fv.Objective) -> Tensor | str:
    try:
        return goal(Anything({}, fv.Rows.make(4)))
    except fv.FeaturevizError as error:  # labels that the model has not, for example
        return type(error).__name__


def assert_same(one: fv.Objective, two: fv.Objective) -> None:
    assert repr(one) == repr(two)
    assert (one.layers, one.n, one.across_batch) == (two.layers, two.n, two.across_batch)
    first, second = score(one), score(two)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        assert torch.equal(first.nan_to_num(), second.nan_to_num())
    else:
        assert first == second


@quick
@given(objectives)
def test_every_objective_reads_back(goal: fv.Objective) -> None:
    assert_same(fv.parse(repr(goal), FUNCTIONS), goal)
    assert_same(copy.deepcopy(goal), goal)


@many
@given(texts)
def test_every_text_is_an_objective_that_reads_back_or_an_error(text: str) -> None:
    assert_reads_back_or_fails(text)


@quick
@given(objectives, st.integers(0, 1000), st.integers(1, 4), st.sampled_from(pieces))
def test_so_is_a_spec_with_a_mistake(goal: fv.Objective, place: int, length: int, piece: str) -> None:
    text = repr(goal)
    place %= len(text) + 1
    assert_reads_back_or_fails(text[:place] + text[place + length :])
    assert_reads_back_or_fails(text[:place] + piece + text[place:])


def assert_reads_back_or_fails(text: str) -> None:
    try:
        goal = fv.parse(text, FUNCTIONS)
    except SpecError:
        return
    assert_same(fv.parse(repr(goal), FUNCTIONS), goal)


def test_the_properties_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = fv.Channel("a", 1)
    monkeypatch.setattr(goal, "spec", "a:2")
    with pytest.raises(AssertionError):
        assert_same(fv.parse("a:1"), goal)
