"""The algebra of objectives, their specs, and the activations that each leaf reads."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.errors import InvalidInput, SpecError, UnknownName
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
    import numpy as np

    assert repr(fv.Channel("a", np.int64(3))) == "a:3"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Channel("a", torch.tensor(3))) == "a:3"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Gate("a", torch.arange(3))) == "gate:a:[0, 1, 2]"  # pyright: ignore[reportArgumentType]
    assert repr(fv.Logit(np.arange(2))) == "logit:[0, 1]"  # pyright: ignore[reportArgumentType]


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("features.12:17", "features.12:17"),
        (" features.12 : 17", "features.12:17"),
        ("2*0:5 - 0.5*1.conv:4", "2*0:5 - 0.5*1.conv:4"),
        ("-gate:features.12.block.2:17", "-gate:features.12.block.2:17"),
        ("3 * (a:1 - b:2) / 2", "1.5*a:1 - 1.5*b:2"),
        ("- -a:1", "a:1"),
        ("2*3*a:1", "6*a:1"),
        ("a:1 + 2 - 1", "a:1 + 1"),
        ("a:1@3,4 * (b:2@centre + 1)", "a:1@3,4*(b:2@centre + 1)"),
        ("logit:207", "logit:207"),
        ("logit:pug", 'logit:"pug"'),
        ('logit:["golden retriever", 3]', 'logit:["golden retriever", 3]'),
        ("[a:1, -b:2,c:3@1,2]", "[a:1, -b:2, c:3@1,2]"),
        ("a:[1, 2,3]", "a:[1, 2, 3]"),
        ("direction:a:[1,-2.5,3e-3]^2", "direction:a:[1, -2.5, 0.003]^2"),
        ("1e-3*deepdream:a.b", "0.001*deepdream:a.b"),
        ("2*(a:1*b:2)", "2*(a:1*b:2)"),
        ("-(a:1*b:2)", "-(a:1*b:2)"),
        ('"conv-1":3 - gate:"my block":007', '"conv-1":3 - gate:"my block":7'),
        ('"gate value:a.b":3@1,2', '"gate value:a.b":3@1,2'),
        ("sparse(conv, 3, 0.5) - sparse(conv, 1)", "sparse(conv, 3, 0.5) - sparse(conv, 1, 0.1)"),
    ],
)
def test_specs_are_parsed(text: str, expected: str) -> None:
    assert repr(fv.parse(text, {"sparse": sparse})) == expected


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected an objective"),
        ("features.12", 11, "expected ':' and a channel"),
        ("features.12:", 12, "expected a channel, 17"),
        ("features.12:x", 12, "expected a channel, 17"),
        ("a:1 b:2", 4, "expected the end"),
        ("a:1 +", 5, "expected an objective"),
        ("(a:1", 4, "expected ')'"),
        ("[a:1, b:2", 9, "expected ']'"),
        ("a:1 / b:2", 5, "a number other than 0"),
        ("a:1 / 0", 5, "a number other than 0"),
        ("2", 0, "a number alone"),
        ("logit:", 6, "expected a class"),
        ("direction:a:1", 12, "expected a vector"),
        ("direction:a:[[1,2],[3]]", 0, "expected"),
        ("sparse(conv, 3", 0, "close this call"),
        ("sparse(conv, x)", 12, "expected numbers"),
        ("sparse(conv)", 0, "missing a required argument"),
        ("a:[1, 2] + b:[1, 2, 3]", 0, "different numbers of images"),
    ],
)
def test_a_wrong_spec_marks_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises((SpecError, InvalidInput)) as caught:
        fv.parse(text, {"sparse": sparse})
    assert message in str(caught.value)
    if isinstance(caught.value, SpecError):
        assert f"position {position}" in str(caught.value)


def test_an_unknown_function_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="nearest: 'sparse'"):
        fv.parse("spars(conv, 1)", {"sparse": sparse})
    assert getattr(sparse, "__name__", "") == "sparse"
    assert sparse.__doc__ == "Reward one unit, penalise the layer."


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
    (lambda a: fv.PerImage([fv.Logit(1)])(a), "image 2 has none"),
    (lambda a: fv.Channel("conv", -1), "an index from 0"),
    (lambda a: fv.Channel("conv", []), "an index from 0"),
    (lambda a: fv.Neuron("conv", 1, 2), "both, from 0, or neither"),
    (lambda a: fv.Direction("conv", torch.zeros(2, 2, 2)), r"expected \[C\] or \[N,C\]"),
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


def test_combining_with_nonsense_is_a_type_error() -> None:
    for make in (lambda: fv.Logit(1) + "a", lambda: fv.Logit(1) * None, lambda: fv.Logit(1) / True):
        with pytest.raises(TypeError, match="expected an objective or a number"):
            make()


def test_a_label_is_resolved_wherever_it_occurs() -> None:
    model = fv.load("embedded")
    label = fv.Logit("golden retriever")
    for goal in (label + label * label, fv.PerImage([label] * 3)):
        leaves = list(prepare(goal, model).leaves())
        assert [leaf.classes for leaf in leaves if isinstance(leaf, fv.Logit)] == [(207,)] * 3
