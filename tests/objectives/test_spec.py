"""Specs: what they mean, that any text is an objective or an error, and that an objective's text reads back."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.errors import InvalidInput, SpecError, UnknownName
from featureviz.objectives.goals import as_objective


@fv.objective
def sparse(a: Tensor, unit: int, penalty: float = 0.1) -> Tensor:
    """Reward one unit, penalise the layer."""
    return a[:, unit].mean((1, 2)) - penalty * a.abs().mean((1, 2, 3))


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
        ("1*a:1/1", "a:1"),
        ("a:1 + (2) - (1)", "a:1 + (1)"),
        ("(2) - a:1", "-a:1 + (2)"),
        ("a:1 + (2)*(3)", "a:1 + (6)"),
        ("(2 + 3)*a:1", "5*a:1"),
        ("a:1@3,4 * (b:2@centre + (1))", "a:1@3,4*(b:2@centre + (1))"),
        ("logit:207", "logit:207"),
        ("logit:pug", 'logit:"pug"'),
        ('logit:["golden retriever", 3]', 'logit:["golden retriever", 3]'),
        ("logit:[0:5, pug]", 'logit:[0, 1, 2, 3, 4, "pug"]'),
        ("[a:1, -b:2,c:3@1,2]", "[a:1, -b:2, c:3@1,2]"),
        ("a:[1, 2,3]", "a:[1, 2, 3]"),
        ("a:[0:3]", "a:[0, 1, 2]"),
        ("a:[:8]", "a:[0:8]"),
        ("a:[0:8:2, 9]@centre", "a:[0, 2, 4, 6, 9]@centre"),
        ("gate:a:[0:3, 7, 20:40:4]", "gate:a:[0, 1, 2, 7, 20:37:4]"),
        ("logit:[10:20]", "logit:[10:20]"),
        ("direction:a:[1,-2.5,3e-3]^2", "direction:a:[1, -2.5, 0.003]^2"),
        ("direction:a:[+1]^-2 * b:1", "direction:a:[1]^-2*b:1"),
        ("direction:a:[1]^1e-05 - b:1", "direction:a:[1]^1e-05 - b:1"),
        ("1e-3*deepdream:a.b", "0.001*deepdream:a.b"),
        ("2*(a:1*b:2)", "2*(a:1*b:2)"),
        ("2*a:1*b:2/4", "0.5*(a:1*b:2)"),
        ("a:1*(b:2*c:3)", "a:1*b:2*c:3"),
        ("-(a:1*b:2)", "-(a:1*b:2)"),
        ('"conv-1":3 - gate:"my block":007', '"conv-1":3 - gate:"my block":7'),
        ('"gate value:a.b":3@1,2', '"gate value:a.b":3@1,2'),
        ("sparse(conv, 3, 0.5) - sparse(conv, 1)", "sparse(conv, 3, 0.5) - sparse(conv, 1, 0.1)"),
        ("sparse(conv, penalty=-1e-3, unit=3)", "sparse(conv, 3, -0.001)"),
    ],
)
def test_specs_are_parsed(text: str, expected: str) -> None:
    functions = {"sparse": sparse}
    assert repr(fv.parse(text, functions)) == expected
    assert repr(fv.parse(expected, functions)) == expected


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected an objective"),
        ("features.12", 11, "expected ':' and a channel"),
        ("features.12:", 12, "expected a channel, 17"),
        ("features.12:x", 12, "expected a channel, 17"),
        ("features.12:1.5", 12, "expected a channel, 17"),
        ("a:1 b:2", 4, "expected the end"),
        ("a:1 +", 5, "expected an objective"),
        ("(a:1", 4, "expected ')'"),
        ("[a:1, b:2", 9, "expected ']'"),
        ("[a:1 b:2]", 5, "expected ']' or ','"),
        ("[a:1,]", 5, "expected an objective"),
        ("[]", 1, "expected an objective"),
        ("a:[1 2]", 5, "expected ']' or ','"),
        ("a:[]", 3, "expected an index"),
        ("a:0:8", 3, "a range is in brackets, as in [0:8]"),
        ("a:[0:]", 5, "expected the end of the range"),
        ("a:[8:0]", 3, "holds no unit"),
        ("a:[0:8:0]", 3, "holds no unit"),
        ("a:[0-7]", 4, "expected ']' or ','"),
        ("a:[0:1000000000]", 3, "at most 65,536"),
        ("a:[0:65536, 0]", 12, "at most 65,536"),
        ("a:99999999999", 2, "expected an index from 0"),
        ("a:1@3", 5, "expected ',' and a column"),
        ("a:1 / b:2", 6, "a number other than 0"),
        ("a:1 / 0", 6, "a number other than 0"),
        ("2", 0, "a number alone"),
        ("2 + 3", 0, "a number alone"),
        ("1e308*10*a:1", 0, "expected a finite number"),
        ("logit:", 6, "expected a class"),
        ("logit:1.5", 6, "expected an index"),
        ("direction:a:1", 12, "expected a vector"),
        ("direction:a:[[1,2],[3]]", 0, "expected"),
        ("direction:a:[1e39]", 0, "not finite"),
        ("direction:a:[1]^", 16, "expected a number"),
        ("sparse(conv, 3", 14, "expected ')' or ','"),
        ("sparse(conv, x)", 13, "expected a number, text in double quotes"),
        ("sparse(conv, 'x')", 13, "expected"),
        ("sparse(conv, unit=3, 4)", 21, "expected name=value"),
        ("sparse(conv, unit=3, unit=4)", 21, "was not given before"),
        ("sparse(conv, <dict>)", 13, "make this objective in Python"),
        ("sparse(conv)", 0, "missing a required argument"),
        ("sparse(0, 3)", 0, "expected its name in quotes"),
        ('"abc:1', 0, 'expected a closing "'),
        ('"\\x":1', 0, "no escapes but those of JSON"),
        ("a:[1, 2] + b:[1, 2, 3]", 0, "different numbers of images"),
        ("[a:[1, 2]]", 0, "each for a single image"),
        ("(" * 51 + "a:1" + ")" * 51, 51, "nested more than 50 deep"),
    ],
)
def test_a_wrong_spec_marks_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        fv.parse(text, {"sparse": sparse})
    assert message in str(caught.value)
    assert f"position {position}" in str(caught.value)


def test_an_unknown_function_gets_the_nearest_name() -> None:
    with pytest.raises(SpecError, match="nearest: 'sparse'") as caught:
        fv.parse("2*a:1 + spars(conv, 1)", {"sparse": sparse})
    assert isinstance(caught.value, UnknownName)
    assert "position 8" in str(caught.value)
    assert getattr(sparse, "__name__", "") == "sparse"
    assert sparse.__doc__ == "Reward one unit, penalise the layer."


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("features.6:0-7", "For the units 0 to 7 write features.6:[0:8]"),
        ("features.6:0 - 7", "features.6:[0:8]"),
        ("-gate:features.9.block.2:3-5", "gate:features.9.block.2:[3:6]"),
        ("logit:0-9", "logit:[0:10]"),
        ('2*"conv-1":0-7', '"conv-1":[0:8]'),
        ("features.6:7-0", "in parentheses"),
        ("features.6:0+7", "in parentheses"),
        ("7 + features.6:0", "in parentheses"),
        ("features.6:0 - 2*3", "in parentheses"),
        ("[features.6:0-7]", "features.6:[0:8]"),
    ],
)
def test_a_bare_number_beside_an_objective_is_an_error(text: str, remedy: str) -> None:
    with pytest.raises(SpecError, match="a number is added to an objective") as caught:
        fv.parse(text)
    assert remedy in str(caught.value)


def test_a_range_is_one_image_for_each_unit() -> None:
    goal = fv.parse("2*features.6:[0:8] - gate:a:[8:16]")
    assert goal.n == 8
    assert repr(goal) == "2*features.6:[0:8] - gate:a:[8:16]"
    assert repr(goal.select([1])) == "2*features.6:1 - gate:a:9"
    assert repr(fv.Channel("a", range(0, 4000, 2))) == "a:[0:3999:2]"
    for units in (range(10**12), [0] * 70_000):
        with pytest.raises(InvalidInput, match="at most 65,536"):
            fv.Channel("a", units)


NAMES = [
    "features.12", "0", "007", "1e5", "1e-3", ".5", "5.", "conv-1", "a b", '3"x3', "back\\slash", "line\nbreak",
    "tab\t", "größe", "层", "٣", "³", "\ud800", "\x00", "'", "{name}", "%s", "gate:x", "gate", "logit", "direction",
    "deepdream", "gate value:a.b", "input", "output", "centre", "True", "None", "tensor", "sparse", "a:1", "[0:8]", "",
    " ", ".",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_written_so_that_it_reads_back(name: str) -> None:
    sites = (fv.Gate, fv.GateValue, fv.GatedChannel, fv.PreGate, fv.Bottleneck)
    leaves = [
        fv.Channel(name, 1), fv.Neuron(name, [1, 2]), fv.Direction(name, [1.0, -2.0]), fv.DeepDream(name),
        sparse(name, 3), *(site(name, 5) for site in sites), fv.Logit([name, 3]), fv.Logit(name),
    ]  # fmt: skip
    for leaf in leaves:
        for goal in (leaf, -2 * leaf + 1, leaf * leaf, leaf - leaf):
            again = fv.parse(repr(goal), {"sparse": sparse})
            assert repr(again) == repr(goal)
            assert again.layers == goal.layers
            assert [type(part) for part in again.leaves()] == [type(part) for part in goal.leaves()]
    (again,) = fv.parse(repr(fv.Logit(name))).leaves()
    assert isinstance(again, fv.Logit)
    assert again.classes == (name,)


def brackets(n: int) -> str:
    return "(" * n + "a:1" + ")" * n


HOSTILE = {
    "brackets": brackets(100_000),
    "lists": "[" * 400_000,
    "calls": "f(" * 100_000,
    "signs": "-" * 100_001 + "a:1",
    "signs of an argument": "f(a, " + "-" * 100_000 + "1)",
    "spaces": " " * 450_000,
    "spaces in a call": "f(" + " " * 400_000 + "!",
    "a megabyte": " " * 10**6,
    "words": "a " * 200_000,
    "digits": "9" * 100_000,
    "digits of a name": "9" * 100_000 + ":1",
    "digits of a unit": "a:" + "9" * 4301,
    "digits of a column": "a:1@" + "9" * 4301 + ",1",
    "digits of a class": "logit:" + "9" * 4301,
    "zeros": "a:" + "0" * 4301,
    "unicode digit": "logit:³",
    "a large number": "direction:a:[" + "9" * 400 + "]",
    "a long vector": "direction:a:[" + "1," * 100_000 + "1]",
    "a dictionary": "f(a, {[]:1})",
    "quotes": '"' * 99_999,
    "escapes": '"' + '\\"' * 200_000,
    "many ranges": "a:[" + "0:60000," * 40_000 + "1]",
    "many terms": " + ".join(f"features.{i % 12}:{i % 1000}" for i in range(10_000)),
    "too many terms": "+".join(["a:1"] * 10_001),
    "many factors": "*".join(["a:1"] * 10_000),
    "many images": f"[{','.join(['a:1'] * 10_000)}]",
    "nested sums": "(" * 49 + "a:1" + "+b:1)*c:1" * 49,
    "lone surrogate": "\ud800:1",
    "zero byte": "\0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_an_objective_or_an_error_soon(text: str) -> None:
    started = time.process_time()
    result: object
    try:
        result = fv.parse(text, {"f": sparse})
    except SpecError as error:
        result = error
    assert isinstance(result, fv.Objective) or len(str(result)) < 1500
    assert time.process_time() - started < 4  # on a slow machine; what grows quadratically takes minutes


@pytest.mark.parametrize(
    "value",
    [None, 5, 1.5, b"a:1", ["a:1"], {}, fv.Channel, object(), torch.ones(2)],
    ids=lambda v: ascii(v).partition(" object at")[0],
)
def test_what_is_no_text_is_an_error(value: Any) -> None:
    with pytest.raises(SpecError, match="expected a spec"):
        fv.parse(value)


def test_functions_are_a_dictionary_by_name() -> None:
    for functions in (5, [sparse], sparse, {1: sparse}):
        with pytest.raises(InvalidInput, match="expected a dictionary of functions by name"):
            fv.parse("a:1", functions)  # pyright: ignore[reportArgumentType]


def test_an_error_in_a_long_text_shows_what_is_near() -> None:
    with pytest.raises(SpecError) as caught:
        fv.parse(" + ".join(f"features.{i}:1" for i in range(500)) + " + here: + " + "b:1 + " * 500)
    _, shown, mark = str(caught.value).splitlines()
    assert shown.startswith("  ...")
    assert shown.endswith("...")
    assert shown[mark.index("^") - len("here: ") :].startswith("here: ")
    with pytest.raises(SpecError) as caught:
        fv.parse("a:1\n+ \tb")
    _, shown, mark = str(caught.value).splitlines()
    assert shown[mark.index("^") :] == ""


def test_a_goal_is_an_objective_a_spec_or_a_list_of_them() -> None:
    goal = as_objective([fv.Channel("a", 1), "-b:2"])
    assert repr(goal) == "[a:1, -b:2]"
    assert repr(as_objective(("a:1",))) == "[a:1]"
    for wrong in (None, 5, b"a:1", [b"a:1"], [["a:1"]], [None], {"a:1": 1}, sparse, fv.Channel):
        with pytest.raises(InvalidInput, match="expected an objective"):
            as_objective(wrong)  # pyright: ignore[reportArgumentType]
