"""Numbers and words of any kind where a caller gives them: taken, or refused by an error that names the argument."""

import functools
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import featureviz as fv
from featureviz.checks import choice, entries, finite, flag, show, whole, wholes
from featureviz.errors import InvalidInput
from featureviz.lab import GateStatistics
from featureviz.lab.draw.canvas import Canvas
from featureviz.transform import Flip, Jitter, Noise, Rotate, Scale

NO_NUMBERS: list[Any] = [
    None, "3", b"3", True, np.True_, 3j, [3], (3,), {3: 3}, np.array([3]), torch.tensor([3]), torch.tensor(True),
    torch.tensor(3, device="meta"), object(), int, float("nan"), np.float32("inf"), -torch.inf, 10**400, 10**5000,
]  # fmt: skip
NO_WHOLE_NUMBERS = [*NO_NUMBERS, 2.5, 3.0, np.float64(3), torch.tensor(3.0), Fraction(3, 1)]


# -------------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).short()])
def test_whole_numbers_of_any_kind_become_plain(value: Any) -> None:
    assert type(whole("n", value)) is int
    assert whole("n", value) == finite("n", value) == 3


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5).half()])
def test_numbers_of_any_kind_become_plain(value: Any) -> None:
    assert type(finite("x", value)) is float
    assert finite("x", value) == 0.5


@pytest.mark.parametrize(
    "value", NO_WHOLE_NUMBERS, ids=lambda v: f"{type(v).__name__} {show(v)}".partition(" at 0x")[0]
)
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"steps=.* was given; expected a whole number"):
        whole("steps", value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda v: f"{type(v).__name__} {show(v)}".partition(" at 0x")[0])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"sd=.* was given; expected a finite number"):
        finite("sd", value)


def test_limits_are_told_and_belong_to_the_range() -> None:
    assert (whole("n", 1, 1, 3), whole("n", 3, 1, 3), finite("x", 0, 0, 1), finite("x", 1, 0, 1)) == (1, 3, 0.0, 1.0)
    for call, text in (
        (lambda: whole("n", 0, 1), "n=0 was given; expected a whole number of at least 1"),
        (lambda: whole("n", 4, 1, 3), "n=4 was given; expected a whole number from 1 to 3"),
        (lambda: finite("x", -0.1, 0), "x=-0.1 was given; expected a finite number of at least 0"),
        (lambda: finite("x", 1.1, 0, 1), "x=1.1 was given; expected a finite number from 0 to 1"),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert str(caught.value) == text


@pytest.mark.parametrize("values", [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), iter([1, 2])])
def test_lists_of_any_kind_become_plain(values: Any) -> None:
    assert wholes("ids", values, count=2) == [1, 2]


@pytest.mark.parametrize(
    "values", [3, None, "12", {1: 2}, np.array(3), np.eye(2), torch.eye(2), torch.ones(2, device="meta"), iter(int, 1)]
)
def test_what_is_no_list_is_refused(values: Any) -> None:
    with pytest.raises(InvalidInput, match=r"ids=.* was given; expected a list of numbers"):
        entries("ids", values)


def test_a_wrong_entry_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"ids\[1\]=0\.5"):
        wholes("ids", [1, 0.5])


@pytest.mark.parametrize("value", [None, 3, "Each", ["each"], np.array(["each"])])
def test_words_are_chosen_from_those_that_there_are(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"scale=.* was given; expected 'each' or 'shared'"):
        choice("scale", value, ("each", "shared"))


@pytest.mark.parametrize("value", [None, 1, 0.0, "yes", np.zeros(2), torch.tensor(True)])
def test_switches_are_true_or_false(value: Any) -> None:
    assert (flag("on", True), flag("on", np.False_)) == (True, False)
    with pytest.raises(InvalidInput, match=r"on=.* was given; expected True or False"):
        flag("on", value)


# ------------------------------------------------------------------------------------------------------------ arguments
@pytest.fixture(scope="module")
def natural() -> GateStatistics:
    return fv.lab.natural_gates()


@functools.cache
def model() -> fv.TappedModel:
    return fv.load("embedded")


SITE = "features.9.block.2"
PICTURE = torch.zeros(1, 3, 24, 24)
WHOLE: dict[str, Callable[[Any, GateStatistics], object]] = {
    "size": lambda v, _: fv.FourierImage(1, v),
    "n": lambda v, _: fv.PixelImage(v, 8),
    "channels": lambda v, _: fv.PixelImage(1, 8, channels=v),
    "seed": lambda v, _: fv.FourierImage(1, 8, seed=v),
    "image_ids": lambda v, _: fv.PixelImage(1, 8, image_ids=[v]),
    "views": lambda v, _: fv.Rng(0, 1, v),
    "step": lambda v, _: fv.Rng(0, 1, step=v),
    "redirect": lambda v, _: fv.Runtime(redirect=v),
    "steps": lambda v, _: fv.fast(v),
    "draws": lambda v, _: fv.evaluate(model(), "features.1:1", PICTURE, draws=v),
    "unit": lambda v, n: n.percentile(SITE, v, torch.zeros(1)),
    "count": lambda v, n: fv.lab.modes(n, SITE, v),
    "extremes": lambda v, _: GateStatistics.measure(model(), PICTURE, extremes=v),
    "sample": lambda v, _: GateStatistics.measure(model(), PICTURE, sample=v),
    "columns": lambda v, _: fv.lab.draw_sheet([("a", PICTURE[0])], v),
    "width": lambda v, _: Canvas(v, 8),
    "in_channels": lambda v, _: fv.nn.SEModule(v),
    "kernel_size": lambda v, _: fv.nn.SpatialAttention(v),
}
FINITE: dict[str, Callable[[Any, GateStatistics], object]] = {
    "pixels": lambda v, _: Jitter(v),
    "low": lambda v, _: Scale(v, 1.5),
    "high": lambda v, _: Scale(0.5, v),
    "degrees": lambda v, _: Rotate(v),
    "p": lambda v, _: Flip(v),
    "sd": lambda v, _: Noise(v),
    "decay": lambda v, _: fv.FourierImage(1, 8, decay=v),
    "lr": lambda v, _: fv.Adam(v),
    "betas": lambda v, _: fv.Adam(betas=(0.9, v)),
    "share": lambda v, _: fv.LinearCooldown(0.1, share=v),
    "end": lambda v, _: fv.LinearCooldown(0.1, end=v),
    "level": lambda v, n: n.quantile(SITE, v),
    "alpha": lambda v, _: fv.lab.overlay(PICTURE[0], torch.zeros(2, 2), v),
}


@pytest.mark.parametrize("name", WHOLE)
def test_arguments_that_are_whole_numbers_are_checked(name: str, natural: GateStatistics) -> None:
    left_out = name in ("n", "size", "columns")  # where None stands for the default
    for value in [*NO_WHOLE_NUMBERS, 2**70, *([] if name == "seed" else [-3])]:
        if not (value is None and left_out):
            with pytest.raises(InvalidInput, match=rf"{name}(\[0\])?="):
                WHOLE[name](value, natural)


@pytest.mark.parametrize("name", FINITE)
def test_arguments_that_are_numbers_are_checked(name: str, natural: GateStatistics) -> None:
    for value in [*NO_NUMBERS, -5, 1e30]:
        if not (name == "lr" and callable(value)):  # a schedule
            with pytest.raises(InvalidInput, match=rf"{name}(\[1\])?="):
                FINITE[name](value, natural)


@pytest.mark.parametrize("seed", [np.int64(3), np.array(3), torch.tensor(3)])
def test_numbers_of_other_kinds_give_the_same_images(seed: Any) -> None:
    plain = fv.FourierImage(2, (8, 12), seed=3, image_ids=[4, 9], decay=0.5, sd=0.25)()
    sizes = np.array([8, 12]), torch.tensor([8, 12]), [np.uint8(8), torch.tensor(12)]
    for size in sizes:
        given = fv.FourierImage(
            np.uint8(2), size, seed=seed, image_ids=np.array([4, 9]), decay=np.float32(0.5), sd=torch.tensor(0.25)
        )  # type: ignore
        assert torch.equal(given(), plain)


def test_what_is_kept_is_written_as_json() -> None:
    cooldown = fv.LinearCooldown(np.float64(0.5), torch.tensor(0.5), np.float16(0.25))  # type: ignore
    adam, runtime = fv.Adam(np.float32(0.5), np.array([0.5, 0.75])), fv.Runtime(redirect=np.int64(4))  # type: ignore
    assert (repr(adam), repr(cooldown)) == (
        "Adam(lr=0.5, betas=(0.5, 0.75))",
        "LinearCooldown(lr=0.5, share=0.5, end=0.25)",
    )
    assert json.dumps([adam.lr, *adam.betas, runtime.redirect]) == "[0.5, 0.5, 0.75, 4]"
    assert repr([Jitter(np.int32(8)), Scale(torch.tensor(0.5), 2), Noise(np.float64(0.5))]) == (  # type: ignore
        "[Jitter(8), Scale(0.5, 2), Noise(0.5)]"
    )


# ----------------------------------------------------------------------------------------------------------- huge sizes
@pytest.mark.parametrize(
    "make",
    [
        lambda: fv.FourierImage(1, 100_000),
        lambda: fv.PixelImage(1, (1, 2**26)),
        lambda: fv.PixelImage(10**9, 1),
        lambda: fv.FourierImage(1, 8, channels=10**7),
        lambda: fv.FourierImage(10**4, image=torch.zeros(3, 100, 100)),
        lambda: fv.Rng(0, 10**12),
        lambda: fv.Rng(0, 100, 2**16),
        lambda: fv.nn.SEModule(10**7),
        lambda: Canvas(10**5, 10**5),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_tried(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput, match=r"was given; expected|at most|were given"):
        make()
