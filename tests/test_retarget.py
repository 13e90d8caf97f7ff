"""Retargeting: a new ascent in the memory of an old one; no unit is a number of Python, and what is one is named."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import featureviz as fv
import objectives_zoo as zoo
from featureviz.errors import InvalidInput
from featureviz.retarget import retarget
from tests.capturing import OPTIMIZERS, ascent_of, halved, memory, natural_of, towards


def test_units_are_read_from_buffers_alone(tiny: fv.TappedModel) -> None:
    """Another objective's buffers, poured into a copy, give that objective's scores."""
    x, natural = torch.rand(4, 3, 24, 24), natural_of(tiny)
    several = [fv.Channel, fv.Neuron, lambda s, u: fv.Direction(s, torch.eye(8)[u])]
    at = [fv.Gate, fv.GateValue, fv.GatedChannel, fv.Content, lambda s, u: fv.GateContrast(s, u, natural),
          lambda s, u: fv.Quadrant(s, u, natural)]  # fmt: skip
    made: list[Callable[[Any], fv.Objective]] = [
        *(lambda u, f=f: f("conv", u) for f in several), *(lambda u, f=f: f("se", u) for f in at), fv.Logit,
        lambda u: towards("conv", torch.eye(8)[u if isinstance(u, int) else u[0]]),
    ]  # fmt: skip
    for make in made:
        for first, second in ((1, 4), ([1, 2], [4, 0])):
            graph, other = make(first), make(second)
            seen = tiny(x, graph.layers, fv.Rows.of(2, 2))
            assert not torch.equal(graph(seen), other(seen)), graph.spec
            graph.load_state_dict(other.state_dict())
            assert torch.equal(graph(seen), other(seen)), graph.spec


# ------------------------------------------------------------------------------------------------------------- retarget
PAIRS = [
    ("conv:[1, 2]", "conv:[4, 4]"), ("conv:1", "conv:5"), ('logit:["bee", 0]', "logit:[3, 4]"),
    ("gate:se:[1, 2] - 0.5*conv:2@centre", "gate:se:[7, 0] - 0.5*conv:5@centre"),
    ("[conv:1, -gate:se:2]", "[conv:3, -gate:se:4]"),
    ("gatevalue:se:1*gated:se:[1, 2]", "gatevalue:se:2*gated:se:[0, 7]"),
    ("direction:conv:[1, 0, 0, 0, 0, 0, 0, 2]^2", "direction:conv:[0, 0, 3, 0, 1, 0, 0, 2]^2"),
]  # fmt: skip


def check_retarget(model: fv.TappedModel, first: Any, second: Any, halvings: int = 0, **options: Any) -> None:
    ascent = halved(ascent_of(model, first, redirect=2, **options), halvings)
    ascent.run(3)
    places = memory(ascent)
    goal = fv.parse(second) if isinstance(second, str) else second
    retarget(ascent, goal, fv.FourierImage(2, 24, seed=5), seed=5, numbers=[3, 8])
    assert ascent.steps_done == 0
    assert not ascent.scores.any()
    retarget(ascent, goal, fv.FourierImage(2, 24, seed=6), seed=6, numbers=[3, 9])  # before a step is made
    ascent.run(4)
    assert memory(ascent) == places
    fresh = halved(ascent_of(model, second, redirect=2, seed=6, numbers=[3, 9], **options), halvings)
    fresh.run(4)
    assert torch.equal(ascent.scores, fresh.scores)
    assert torch.equal(ascent.images(), fresh.images())
    assert ascent.objective.spec == fresh.objective.spec
    for mine, theirs in zip(ascent.optimizer.state.values(), fresh.optimizer.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(mine[k]), torch.as_tensor(theirs[k])) for k in theirs)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_retargeted_ascent_is_a_new_one_in_the_same_memory(tiny: fv.TappedModel, first: str, second: str) -> None:
    check_retarget(tiny, first, second)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_starts_anew(tiny: fv.TappedModel, name: str) -> None:
    check_retarget(tiny, "conv:[1, 2]", "conv:[4, 4]", optimizer=OPTIMIZERS[name])


@pytest.mark.parametrize("halvings", [1, 2])
def test_a_split_batch_is_retargeted_in_all_its_parts(tiny: fv.TappedModel, halvings: int) -> None:
    check_retarget(tiny, "conv:[1, 2]", "conv:[4, 4]", halvings)


def test_tensors_of_natural_statistics_and_functions_are_poured(tiny: fv.TappedModel) -> None:
    natural, other = natural_of(tiny), natural_of(tiny, 3)
    check_retarget(tiny, fv.Quadrant("se", 1, natural), fv.Quadrant("se", 4, other, level=0.8))
    check_retarget(tiny, fv.GateContrast("se", [1, 2], natural), fv.GateContrast("se", [0, 3], other))
    check_retarget(tiny, towards("conv", torch.arange(8.0)), towards("conv", torch.ones(8)))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("conv:1", "stem.0:1", r"has layers=\('stem.0',\), not \('conv',\)"),
        ("conv:1", "conv:[1, 2]", "has n=2, not 1"),
        ("conv:1", "conv:1@centre", "is made of Neuron, not of Channel"),
        ("conv:1@1,2", "conv:1@2,2", "has y=2, not 1"),
        ("conv:1 - 2*logit:1", "conv:1 - 3*logit:1", r"has weights=\(1.0, -3.0\)"),
        ("conv:1 + 1", "conv:1 + 2", "has constant=2.0"),
        ("[conv:1, conv:2]", "[conv:1, -conv:2]", "is made of"),
        (towards("conv", torch.ones(8)), towards("conv", torch.ones(8), 2.0), r"has args=\(None, 2.0\)"),
        (zoo.sparse_channel("conv", 1), zoo.sparse_channel("conv", 2), "has args="),
    ],
)
def test_what_a_graph_would_not_see_is_named(tiny: fv.TappedModel, first: Any, second: Any, message: str) -> None:
    ascent = ascent_of(tiny, first)
    ascent.run(2)
    before, images = copy.deepcopy(ascent.objective.state_dict()), ascent.images()
    goal = fv.parse(second) if isinstance(second, str) else second
    with pytest.raises(InvalidInput, match=message):
        retarget(ascent, goal, fv.FourierImage(2, 24))
    assert all(torch.equal(before[k], v) for k, v in ascent.objective.state_dict().items())
    assert torch.equal(ascent.images(), images)
    assert ascent.steps_done == 2


def test_a_neuron_that_is_seen_in_a_crop(tiny: fv.TappedModel) -> None:
    assert ascent_of(tiny, "stem.0:1@4,4").crop is not None
    check_retarget(tiny, "stem.0:1@4,4", "stem.0:5@4,4")
    check_retarget(tiny, "stem.0:[1, 2]@4,4", "stem.0:[0, 7]@4,4")
    ascent = ascent_of(tiny, "stem.0:1@4,4")
    with pytest.raises(InvalidInput, match="it sees another part of the views"):
        retarget(ascent, fv.Neuron("stem.0", 1, 6, 6), fv.FourierImage(2, 24))


def test_another_image_is_named(tiny: fv.TappedModel) -> None:
    ascent = ascent_of(tiny, "conv:1")
    for image, message in (
        (fv.PixelImage(2, 24), "is made of PixelImage, not of FourierImage"),
        (fv.FourierImage(2, 32), r"the image has size=\(32, 32\), not \(24, 24\)"),
        (fv.FourierImage(3, 24), "the image holds"),
        (fv.FourierImage(2, 24, decorrelate=False), "the image"),
    ):
        with pytest.raises(InvalidInput, match=message):
            retarget(ascent, fv.Channel("conv", 1), image)
    with pytest.raises(InvalidInput, match=r"numbers=\[1\] was given for 2 images"):
        retarget(ascent, fv.Channel("conv", 1), fv.FourierImage(2, 24), numbers=[1])
    with pytest.raises(InvalidInput, match="Adagrad makes its state"):
        retarget(
            ascent_of(tiny, "conv:1", optimizer=torch.optim.Adagrad), fv.Channel("conv", 1), fv.FourierImage(2, 24)
        )
    with pytest.raises(InvalidInput, match=r"start=\[1, 2\]"):
        retarget(ascent, fv.Channel("conv", 1), fv.FourierImage(2, 24), start=[1, 2])


def test_images_that_start_at_steps_of_their_own(tiny: fv.TappedModel) -> None:
    ascent = ascent_of(tiny, "conv:[1, 2]", start=[0, 4])
    ascent.run(2)
    retarget(ascent, fv.Channel("conv", [4, 4]), fv.FourierImage(2, 24), start=[7, 1])
    ascent.run(2)
    fresh = ascent_of(tiny, "conv:[4, 4]", start=[7, 1])
    fresh.run(2)
    assert torch.equal(ascent.images(), fresh.images())


def test_nothing_moves_from_step_to_step(tiny: fv.TappedModel) -> None:
    for name in OPTIMIZERS:
        ascent = halved(ascent_of(tiny, "gate:se:[1, 2]", optimizer=OPTIMIZERS[name]), 1)
        ascent.step()
        places = memory(ascent)
        ascent.run(3)
        assert memory(ascent) == places
