"""The algebra of objectives, their specs, and the activations that each leaf reads."""

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, UnknownName
from featureviz.network.axes import Axes
from featureviz.objectives.goals import merge_per_image, prepare


@fv.objective
def sparse(a: Tensor, unit: int, penalty: float = 0.1) -> Tensor:
    """Reward one unit, penalise the layer."""
    return a[:, unit].mean((1, 2)) - penalty * a.abs().mean((1, 2, 3))


LEAVES: dict[str, fv.Objective] = {
    "channel": fv.Channel("conv", 3),
    "channels": fv.Channel("conv", [3, 0, 5]),
    "dense channel": fv.Channel("fc", 2),
    "neuron": fv.Neuron("conv", 3, 1, 2),
    "centre neuron": fv.Neuron("conv", [1, 2, 3]),
    "direction": fv.Direction("conv", [0.5, -1.25, 2, 0, 0, 1e-7]),
    "cosine direction": fv.Direction("conv", [[1.0, 0, 0, 0, 0, 0.1]] * 3, power=2),
    "logit": fv.Logit(4),
    "label": fv.Logit("golden retriever"),
    "labels": fv.Logit([1, "ant", 2]),
    "deepdream": fv.DeepDream("conv"),
    "gate": fv.Gate("features.1.block.2", 2),
    "gates": fv.Gate("features.1.block.2", [2, 0, 4]),
    "function": sparse("conv", 2, 0.25),
    "per image": fv.PerImage([fv.Channel("conv", 1), -fv.Channel("fc", 2), 2 * fv.Logit(3)]),
}
each = pytest.mark.parametrize("a", LEAVES.values(), ids=LEAVES.keys())


AXES = {"tokens": Axes.parse("n t c")}


@pytest.fixture
def acts() -> fv.Activations:
    g = torch.Generator().manual_seed(0)
    tensors = {
        "conv": torch.randn(6, 6, 4, 5, generator=g),
        "fc": torch.randn(6, 7, generator=g),
        "tokens": torch.randn(6, 9, 4, generator=g),
        "output": torch.randn(6, 5, generator=g),
        "gate:features.1.block.2": torch.randn(6, 5, generator=g),
    }
    return fv.Activations(tensors, fv.Rows.make(3, views=2), ["ant", "bee", "golden retriever", "dog", "eel"], AXES)


def spec_round_trip(objective: fv.Objective) -> fv.Objective:
    return fv.parse(objective.spec, {"sparse": sparse})


@each
def test_the_algebra_is_that_of_numbers(a: fv.Objective, acts: fv.Activations) -> None:
    b = 0.5 * fv.Channel("fc", 1)
    x, y = a(acts), b(acts)
    before = (repr(a), repr(b))
    for got, expected in (
        (a + b, x + y),
        (a - b, x - y),
        (b - a, y - x),
        (-a, -x),
        (3 * a, 3 * x),
        (a * 3, 3 * x),
        (a / 4, x / 4),
        (2 * (a + b), 2 * (x + y)),
        (2 * a - b / 2, 2 * x - y / 2),
        (a * b, x * y),
        ((a - b) * (a + b), (x - y) * (x + y)),
        (1 - a, 1 - x),
        (a + 2, x + 2),
        (2 + a - 1, x + 1),
        (-(a - b) - a, -(x - y) - x),
        (sum([a, b, a]), x + y + x),
    ):
        assert torch.allclose(got(acts), expected, atol=1e-5), got.spec
        assert torch.allclose(spec_round_trip(got)(acts), expected, atol=1e-5), got.spec
        assert set(got.layers) <= {*a.layers, *b.layers}
    assert (a - a)(acts).abs().max() == 0
    assert repr(spec_round_trip(2 * (a * b))) == repr(2 * (a * b))
    assert repr(spec_round_trip(1 - (a * b))) == repr(1 - (a * b))
    assert set((a + b).layers) == {*a.layers, *b.layers}
    assert (repr(a), repr(b)) == before


@each
def test_specs_and_pickles_round_trip(a: fv.Objective, acts: fv.Activations) -> None:
    for o in (a, -2.5 * a + 1e-7, a * a):
        assert repr(spec_round_trip(o)) == repr(o) == str(o)
        again = pickle.loads(pickle.dumps(o))
        assert torch.equal(again(acts), o(acts))
        assert again.layers == o.layers


@each
def test_a_row_depends_on_its_own_row_alone(a: fv.Objective, acts: fv.Activations) -> None:
    x = {name: acts[name].clone().requires_grad_() for name in acts}
    score = a(fv.Activations(x, acts.rows, acts.labels))
    assert score.shape == (6,)
    for gradient in torch.autograd.grad(score[3], list(x.values()), allow_unused=True):
        if gradient is not None:
            assert gradient[[0, 1, 2, 4, 5]].abs().max() == 0


@each
def test_select_gives_the_objective_of_one_image(a: fv.Objective, acts: fv.Activations) -> None:
    whole = (2 * a + 1)(acts)
    for i, part in enumerate(acts.per_image()):
        alone = (2 * a + 1).select([i])
        assert alone.n == 1
        assert torch.allclose(alone(part), whole[2 * i : 2 * i + 2], atol=1e-6)


def test_leaves_compute_their_formula(acts: fv.Activations) -> None:
    conv = acts["conv"]
    assert torch.equal(fv.Channel("conv", 3)(acts), conv[:, 3].mean((1, 2)))
    assert torch.allclose(fv.Channel("conv", [3, 0, 5])(acts)[4:], conv[4:, 5].mean((1, 2)))
    assert torch.equal(fv.Channel("fc", 2)(acts), acts["fc"][:, 2])
    assert torch.allclose(fv.Channel("tokens", 2)(acts), acts["tokens"][:, :, 2].mean(1))
    assert torch.equal(fv.Neuron("conv", 3)(acts), conv[:, 3, 2, 2])  # the centre of 4x5
    assert torch.equal(fv.Neuron("conv", 3, 1, 4)(acts), conv[:, 3, 1, 4])
    assert torch.equal(fv.Logit(4)(acts), acts["output"][:, 4])
    assert torch.equal(fv.Logit("golden retriever")(acts), acts["output"][:, 2])
    assert torch.equal(fv.Logit(["ant", "bee", 2])(acts)[2:4], acts["output"][2:4, 1])
    assert torch.allclose(fv.DeepDream("conv")(acts), conv.square().mean((1, 2, 3)))
    v = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.0, 1.0])
    dot = torch.einsum("mchw,c->mhw", conv, v)
    assert torch.allclose(fv.Direction("conv", v)(acts), dot.mean((1, 2)), atol=1e-6)
    cosine = dot / ((conv.norm(dim=1) + 1e-4) * (v.norm() + 1e-4))
    expected = (dot * cosine.clamp(min=0.1) ** 2).mean((1, 2))
    assert torch.allclose(fv.Direction("conv", v, 2)(acts), expected, atol=1e-6)


def test_units_may_be_numpy_or_torch_integers() -> None:
    assert repr(fv.Channel("a", np.int64(3))) == "a:3"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Channel("a", torch.tensor(3))) == "a:3"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Gate("a", torch.arange(3))) == "gate:a:[0, 1, 2]"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Logit(np.arange(2))) == "logit:[0, 1]"  # pyright: ignore[reportArgumentType]


NO_UNITS = [
    -1, 1 << 31, 10**5000, 1.5, math.nan, True, None, "3", b"3", [], [[1]], [1.0], [True, False], {}, object(),
    np.array([1.5]), np.bool_(True), torch.tensor([True, False]), torch.tensor(1.5), torch.ones(3), 1j,
]  # fmt: skip


@pytest.mark.parametrize("unit", NO_UNITS, ids=lambda unit: type(unit).__name__)
def test_what_is_no_unit_is_an_error(unit: Any) -> None:
    for kind in (fv.Channel, fv.Neuron, fv.Gate, fv.PreGate, lambda _, unit: fv.Logit(unit)):
        if unit == "3" and not isinstance(kind, type):
            continue  # a label
        with pytest.raises(InvalidInput, match=r"expected (an index|a whole number)|no class"):
            kind("a", unit)
    for place in ((unit, 2), (2, unit)):
        with pytest.raises(InvalidInput, match=r"expected (an index|a whole number) from 0|expected both"):
            fv.Neuron("a", 1, *place)


@pytest.mark.parametrize("layer", [3, None, b"a", ["a"], fv.Channel("a", 1)], ids=lambda layer: type(layer).__name__)
def test_a_layer_is_named_by_text(layer: Any) -> None:
    for kind in (fv.Channel, fv.Neuron, fv.Gate, fv.Bottleneck, fv.Direction, lambda name, _: fv.DeepDream(name)):
        with pytest.raises(InvalidInput, match="expected its name"):
            kind(layer, [1])


NO_VECTORS = [
    [math.nan], [math.inf, 1], [1e39], [1j], ["a"], [[1, 2], [3]], [], [[]], 3, None, {}, np.array([2, 1j]),
    torch.zeros(2, dtype=torch.cfloat), np.array([1j]), torch.zeros(1, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("vector", NO_VECTORS, ids=lambda vector: type(vector).__name__)
def test_what_is_no_direction_is_an_error(vector: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected numbers, \[C\] or \[N,C\]"):
        fv.Direction("a", vector)
    assert repr(fv.Direction("a", np.arange(3.0)[::-1])) == "direction:a:[2, 1, 0]"  # pyright: ignore


def test_tensor_arguments_are_buffers(acts: fv.Activations) -> None:
    @fv.objective
    def along(a: Tensor, direction: Tensor) -> Tensor:
        return a @ direction

    direction = torch.arange(7.0)
    objective = along("fc", direction)
    assert [tuple(b.shape) for b in objective.buffers()] == [(7,)]
    assert torch.equal(objective(acts), acts["fc"] @ direction)


def test_many_units_are_one_gather() -> None:
    assert isinstance(merge_per_image([fv.Channel("a", 1), fv.Channel("a", 2)]), fv.Channel)
    assert isinstance(merge_per_image([fv.Gate("a", 1), fv.Gate("a", 2)]), fv.Gate)
    assert isinstance(merge_per_image([fv.Channel("a", 1), fv.Channel("b", 2)]), fv.PerImage)
    assert isinstance(merge_per_image([-fv.Channel("a", 1), fv.Channel("a", 2)]), fv.PerImage)
    one = fv.Channel("a", 1)
    assert merge_per_image([one]) is one


BAD: list[tuple[Any, str]] = [
    (lambda a: fv.Channel("conv", 6)(a), r"channel 6 of 'conv' .* it has 6: 0 to 5"),
    (lambda a: fv.Channel("conv", [1, 2])(a), "2 units of 'conv' for image 2"),
    (lambda a: fv.Channel("cnv", 6)(a), "nearest: 'conv'"),
    (lambda a: fv.Neuron("conv", 1, 4, 0)(a), "row 4, column 0 is outside of 'conv', which is 4x5"),
    (lambda a: fv.Neuron("fc", 1)(a), "has no rows and columns"),
    (lambda a: fv.Direction("conv", [1.0, 2.0])(a), "has 2 numbers; the layer has 6 channels"),
    (lambda a: fv.Logit("golden retrievr")(a), "nearest: 'golden retriever'"),
    (lambda a: fv.Logit("ant")(fv.Activations({"output": a["output"]}, a.rows)), "no labels"),
    (lambda a: fv.Logit(0)(fv.Activations({"output": a["conv"]}, a.rows)), r"not logits \[M,K\]"),
    (lambda a: fv.PerImage([fv.Logit(1), fv.Logit(2)])(a), "image 2 has none"),
    (lambda a: fv.Channel("conv", -1), "(an index|a whole number) from 0"),
    (lambda a: fv.Channel("conv", []), "(an index|a whole number) from 0"),
    (lambda a: fv.Neuron("conv", 1, 2), "both, from 0, or neither"),
    (lambda a: fv.Direction("conv", torch.zeros(2, 2, 2)), r"expected numbers, \[C\] or \[N,C\]"),
    (lambda a: fv.Logit([]), "got no class"),
    (lambda a: fv.PerImage([]), "at least one objective"),
    (lambda a: fv.PerImage([fv.Channel("conv", [1, 2])]), "each for a single image"),
    (lambda a: fv.Channel("conv", 1) / 0, "other than 0"),
    (lambda a: fv.Channel("conv", [1, 2]) + fv.Logit([1, 2, 3]), "different numbers of images"),
    (lambda a: sparse("conv"), "missing a required argument"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_explained(make: Any, message: str, acts: fv.Activations) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=message):
        make(acts)


NONSENSE = ["a", None, True, b"1", [1.0], math.nan, math.inf, -math.inf, 1j, 10**400, np.float32("nan"), torch.ones(2)]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:20])
def test_combining_with_nonsense_is_a_type_error(value: Any) -> None:
    a = fv.Logit(1)
    calls = (lambda: a + value, lambda: a - value, lambda: a * value, lambda: a / value, lambda: value * a)
    for make in calls:
        with pytest.raises(TypeError, match="expected an objective or a number") as caught:
            make()
        assert isinstance(caught.value, FeaturevizError)
    with pytest.raises(InvalidInput, match=r"power=.* expected a finite number"):
        fv.Direction("a", [1.0], value)


@pytest.mark.parametrize("two", [2, 2.0, np.int8(2), np.float32(2), torch.tensor(2), torch.tensor(2.0), Fraction(2)])
def test_numbers_of_numpy_and_torch_are_numbers(two: Any) -> None:
    a = fv.Channel("a", 1)
    for objective in (two * a, a * two, a / (1 / two)):
        assert repr(objective) == "2*a:1"
    assert repr(a + two) == repr(two + a) == "a:1 + (2)"
    assert repr(two - a) == "-a:1 + (2)"


def test_a_weight_that_overflows_is_an_error() -> None:
    for make in (lambda a: 1e300 * (1e300 * a), lambda a: a / 5e-324, lambda a: 1e200 * (a + 1e200)):
        with pytest.raises(InvalidInput, match=r"expected a finite number|a number that is finite"):
            make(fv.Channel("a", 1))


def test_products_are_flat_and_nesting_has_a_limit(acts: fv.Activations) -> None:
    a = fv.Channel("fc", 1)
    product = a * a * (a * a)
    assert repr(product) == "fc:1*fc:1*fc:1*fc:1"
    assert torch.allclose(product(acts), a(acts) ** 4)
    nested: fv.Objective = a
    for _ in range(25):
        nested = (nested + 1) * a
    with pytest.raises(InvalidInput, match="expected at most 50"):
        nested + 1
    for whole in (copy.deepcopy(nested), pickle.loads(pickle.dumps(nested)), fv.parse(repr(nested))):
        assert torch.equal(whole(acts), nested(acts))


def test_one_objective_in_a_list_is_for_any_number_of_images(acts: fv.Activations) -> None:
    goal, alone = fv.Channel("fc", 1) - 2, fv.PerImage([fv.Channel("fc", 1) - 2])
    assert alone.n == goal.n == 1
    assert torch.equal(alone(acts), goal(acts))
    for image in (0, 1, 7):
        assert repr(alone.select([image])) == repr(goal)
        assert torch.equal((2 * alone).select([image])(acts), 2 * goal(acts))


SEVERAL = {
    "channels": fv.Channel("conv", [3, 0, 5]),
    "neurons": fv.Neuron("conv", [1, 2, 3]),
    "directions": fv.Direction("conv", [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]),
    "labels": fv.Logit([1, "ant", 2]),
    "per image": fv.PerImage([fv.Channel("conv", 1), -fv.Channel("fc", 2), 2 * fv.Logit(3)]),
    "sum": 2 * fv.Channel("conv", [3, 0, 5]) + 1,
    "product": fv.Channel("conv", [3, 0, 5]) * fv.Logit(1),
}


@pytest.mark.parametrize("goal", SEVERAL.values(), ids=SEVERAL.keys())
def test_images_that_an_objective_has_not_are_an_error(goal: fv.Objective) -> None:
    for images in ([3], [-1], [0, 3], [], [0.5], [10**400], None):
        with pytest.raises(InvalidInput, match="image"):
            goal.select(images)  # pyright: ignore[reportArgumentType]
    assert goal.select([2, 0]).n == 2


def test_a_label_is_resolved_wherever_it_occurs() -> None:
    model = fv.load("embedded")
    label = fv.Logit("golden retriever")
    for goal in (label + label * label, fv.PerImage([label] * 3)):
        leaves = list(prepare(goal, model).leaves())
        assert [leaf.classes for leaf in leaves if isinstance(leaf, fv.Logit)] == [(207,)] * 3
