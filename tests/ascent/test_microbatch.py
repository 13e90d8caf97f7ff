"""Batches larger than memory: in parts, and the same images."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.ascent.ascent import Ascent
from featureviz.errors import ModelError
from featureviz.image import FourierImage
from featureviz.objectives.algebra import Objective
from featureviz.objectives.goals import as_objective
from featureviz.rng import Rng
from featureviz.transform import Noise, robust
from tests.conftest import TinySE
from tests.network.test_fused import drawn

ERRORS: dict[str, Callable[[], Exception]] = {
    "device": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "host": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
        " allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)"
    ),
}


class Memory:
    """How much room there is and how often it did not do; one for a network and all of its copies."""

    def __init__(self, room: int) -> None:
        self.room, self.refused = room, 0

    def __deepcopy__(self, _: object) -> "Memory":
        return self


class Limited(nn.Module):
    """Has room for ``room`` views at once, on the way forward or on the way back."""

    def __init__(self, room: int, error: str = "device", at: str = "forward") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.memory, self.error, self.at = drawn(TinySE()), Memory(room), error, at

    def forward(self, x: Tensor) -> Tensor:
        if self.at == "forward":
            self._check(x)
        elif x.requires_grad:
            x.register_hook(self._check)
        return self.net(x)

    def _check(self, x: Tensor) -> None:
        if len(x) > self.memory.room:
            self.memory.refused += 1
            raise ERRORS[self.error]()


def climbed(net: Limited, goal: Objective | str | Sequence[str], n: int, views: int, steps: int = 5) -> Ascent:
    """Pipeline, redirection, noise: all that a step does."""
    model = fv.wrap(net, mean=0.5, std=0.25, size=24)
    ascent = Ascent(
        model, as_objective(goal), FourierImage(n, 28, seed=3), transforms=[*robust(), Noise(0.1)], views=views, seed=3,
        image_ids=range(4, 4 + n), steps=steps, runtime=fv.Runtime(redirect=2),
    )  # fmt: skip
    ascent.run(steps)
    return ascent


def same_climb(whole: Ascent, parts: Ascent) -> None:
    assert (whole.scores[0] != whole.scores[-1]).all()
    torch.testing.assert_close(parts.scores, whole.scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts.images(), whole.images(), rtol=0, atol=1e-5)


CASES = {  # images, views, room, and what goes through at once
    "5 images by 2": (5, 1, 2, [2, 2, 1]),
    "5 images by 3": (5, 1, 3, [3, 2]),
    "2 images of 3 views, view by view": (2, 3, 1, [1] * 6),
    "2 images of 3 views by 2": (2, 3, 2, [2, 1, 2, 1]),
    "1 image of 4 views by 3": (1, 4, 3, [2, 2]),
    "1 image of 4 views, view by view": (1, 4, 1, [1] * 4),
    "3 images of 2 views, image by image": (3, 2, 3, [2, 2, 2]),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("case", CASES)
def test_parts_make_the_same_images(case: str, error: str) -> None:
    n, views, room, expected = CASES[case]
    goal = fv.Channel("net.conv", list(range(n)) if n > 1 else 2)
    whole, net = climbed(Limited(100), goal, n, views), Limited(room, error)
    parts = climbed(net, goal, n, views)
    assert len(whole.microbatches) == 1
    assert [len(p.rows) for p in parts.microbatches] == expected
    assert net.memory.refused <= 5  # it learns once, not at every step
    same_climb(whole, parts)


ON_A_CPU = {  # images, views, how many views at once, and what goes through at once
    "as many as there may be": (3, 2, 6, [6]),
    "evenly": (7, 1, 4, [4, 3]),
    "whole images": (5, 3, 7, [6, 6, 3]),
    "views of one image": (2, 5, 3, [3, 2, 3, 2]),
    "views larger than all there may be": (2, 2, 0.5, [1] * 4),
}


@pytest.mark.parametrize("case", ON_A_CPU)
def test_a_cpu_takes_a_few_views_at_a_time(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n, views, at_once, expected = ON_A_CPU[case]
    goal = fv.Channel("net.conv", list(range(n)))
    whole = climbed(Limited(100), goal, n, views)
    monkeypatch.setattr("featureviz.ascent.microbatch.PIXELS", int(at_once * 24 * 24))
    parts = climbed(Limited(100), goal, n, views)
    assert len(whole.microbatches) == 1
    assert [len(p.rows) for p in parts.microbatches] == expected
    same_climb(whole, parts)


def test_what_looks_across_the_batch_sees_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureviz.ascent.microbatch.PIXELS", 1)
    assert len(climbed(Limited(100), Together(), 4, 1).microbatches) == 1


def test_larger_views_are_fewer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureviz.ascent.microbatch.PIXELS", 24 * 24)
    counts = []
    for size in (12, 24):
        model = fv.wrap(Limited(100), mean=0.5, std=0.25, size=size)
        counts.append(len(Ascent(model, fv.Channel("net.conv", 1), FourierImage(4, 28)).microbatches))
    assert counts == [1, 4]


@pytest.mark.parametrize("at", ["forward", "backward"])
def test_objectives_of_every_kind_of_image(at: str) -> None:
    """Per image, gates, regularisers, algebra; memory may also be full on the way back."""
    goal = ["net.conv:1 - 0.1*net.stem:3", "gate:net.se:2", "output:3", "net.conv:4@2,3"]
    net = Limited(3, at=at)
    parts = climbed(net, goal, 4, 2)
    assert net.memory.refused > 0
    assert len(parts.microbatches) == 4
    same_climb(climbed(Limited(100), goal, 4, 2), parts)


def test_every_image_and_view_is_in_one_part() -> None:
    parts = climbed(Limited(2), fv.Channel("net.conv", 1), 3, 5, steps=1).microbatches
    met = [(i, k) for p in parts for i in range(3)[p.images] for k in range(5)[p.views]]
    assert sorted(met) == [(i, k) for i in range(3) for k in range(5)]
    for part in parts:
        assert part.rows.images == tuple(range(3)[part.images])
        assert len(part.rng) == len(part.rows) == len(part.rows.image)


def test_a_render_does_not_mind() -> None:
    goal, net = ["net.conv:1", "net.conv:2", "net.conv:3"], Limited(48)  # held-out views come 48 at a time

    def rendered(room: int) -> fv.Rendering:
        net.memory.room = 10**6
        model = fv.wrap(net, size=24)

        def start(n: int, size: int, *, seed: int, image_ids: Sequence[int] | None) -> FourierImage:
            net.memory.room = room
            return FourierImage(n, size, seed=seed, image_ids=image_ids)

        def stop(leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.SGD(leaves, lr=1.0)

        try:
            return fv.render(
                model, goal, steps=3, size=24, views=20, image=start, optimizer=stop, transforms=[], progress=False
            )
        finally:
            net.memory.room = 48

    roomy, small = rendered(60), rendered(48)
    assert net.memory.refused > 0
    torch.testing.assert_close(small.images, roomy.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(small.scores, roomy.scores, rtol=1e-4, atol=1e-6)


class Together(Objective):
    """How far the images are from each other."""

    def __init__(self) -> None:
        super().__init__(["net.conv"], "together", across_batch=True)

    def forward(self, activations: fv.Activations) -> Tensor:
        a = activations["net.conv"].flatten(1)
        return (a - a.mean(0)).square().mean(1)


@pytest.mark.parametrize("error", ERRORS)
def test_images_that_depend_on_each_other_are_not_split(error: str) -> None:
    net = Limited(2, error)
    with pytest.raises(type(ERRORS[error]()), match="memory") as caught:
        climbed(net, Together(), 3, 1)
    assert not isinstance(caught.value, ModelError)
    climbed(net, Together(), 2, 1)


@pytest.mark.parametrize("error", ERRORS)
def test_where_one_view_does_not_fit_the_error_is_memorys_own(error: str) -> None:
    net = Limited(1, error)
    ascent = Ascent(fv.wrap(net, size=24), fv.Channel("net.conv", 1), FourierImage(3, 24), views=2)
    ascent.step()
    net.memory.room = 0
    with pytest.raises(type(ERRORS[error]()), match="memory") as caught:
        ascent.step()
    assert not isinstance(caught.value, ModelError)
    net.memory.room = 1
    ascent.step()  # nothing is lost
    assert ascent.steps_done == 2


LOOKS: dict[str, Callable[[fv.TappedModel], object]] = {
    "layers": lambda model: model.layers(),
    "gates": lambda model: model.gates,
    "forward": lambda model: model(torch.rand(1, 3, 24, 24), ["net.conv"]),
    "ascent": lambda model: Ascent(model, fv.Channel("net.conv", 1), FourierImage(1, 24)).step(),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("look", LOOKS)
def test_memory_that_is_full_while_looking_is_not_remembered(look: str, error: str) -> None:
    """Nor is it the network's failure: another program may have been using it."""
    net = Limited(0, error)
    model = fv.wrap(net, size=24)
    with pytest.raises(type(ERRORS[error]()), match="memory") as caught:
        LOOKS[look](model)
    assert not isinstance(caught.value, ModelError)
    net.memory.room = 10**6
    LOOKS[look](model)


def test_other_errors_are_not_taken_for_it() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 3:
                raise RuntimeError("shapes do not match")
            return x * 2

    model = fv.wrap(Broken(), size=8)
    ascent = Ascent(model, fv.Channel("output", 0), FourierImage(4, 8))
    with pytest.raises(ModelError, match="shapes do not match"):
        ascent.step()
    assert len(ascent.microbatches) == 1


def test_a_part_draws_the_wholes_own_numbers() -> None:
    whole = Rng(5, torch.tensor([3, 8, 2, 40]), views=3)
    slices = [(slice(0, 4), slice(0, 3)), (slice(1, 3), slice(0, 3)), (slice(2, 3), slice(1, 3)), (slice(3, 4),) * 2]
    slices[-1] = (slice(3, 4), slice(2, 3))
    parts = [whole.select(i, k) for i, k in slices]
    whole.uniform()  # a part starts at the first draw, wherever the whole is
    for _ in range(3):
        whole.restart()
        drawn_ = [(r.uniform(), r.normal((2, 3)), r.integers(), r.uniform(-1, 1, (5,))) for r in (whole, *parts)]
        for (i, k), own in zip(slices, drawn_[1:], strict=True):
            for all_, some in zip(drawn_[0], own, strict=True):
                expected = all_.view(4, 3, *all_.shape[1:])[i, k]
                assert torch.equal(some.view(expected.shape), expected)
        whole.advance()  # the step is shared
        for part in parts:
            part.restart()
            assert torch.equal(part.step, whole.step)
    nested = whole.select(slice(1, 4), slice(1, 3)).select(slice(1, 2), slice(1, 2))
    assert torch.equal(nested.uniform(), whole.restart().uniform().view(4, 3)[2, 2:])
    assert len(whole) == 12
    assert whole.views == 3
