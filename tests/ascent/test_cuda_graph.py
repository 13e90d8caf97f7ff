"""CudaGraphStep steps. Without a device: what is in the way, by name, and the order of things. With one: the rest."""

import random
from collections.abc import Callable
from typing import Any

import kornia
import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.ascent.capturable import why_not
from featureviz.ascent.cuda_graph import CudaGraphStep, Uncapturable, stepper
from featureviz.errors import InvalidInput
from featureviz.transform import Jitter, Noise, Pixelwise, Transform, Until
from tests.ascent.ascents import OPTIMIZERS, ascent_of

ON_CPU = "the model is on cpu, and graphs need a CUDA device"


@fv.objective
def reads_back(a: Tensor) -> Tensor:
    """Waits for the device."""
    return a.mean((1, 2, 3)) * float(a.mean() > 0)


class Guess(Pixelwise):
    """Draws from Python's own generator."""

    def draw(self, rng: fv.Rng, size: tuple[int, int]) -> tuple[Tensor, ...]:
        return (torch.full((len(rng), 1, 1, 1), random.random(), device=rng.device),)

    def transform(self, images: Tensor, draw: tuple[Tensor, ...]) -> Tensor:
        return images * draw[0]


# ---------------------------------------------------------------------------------------------------------- what is not
class Waits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if bool(x.mean() > 0) else x


def test_what_is_in_the_way_is_named(tiny: fv.TappedModel) -> None:
    assert why_not(ascent_of(tiny, "conv:[1, 2]")) == [ON_CPU]
    sick = [Jitter(2), kornia.augmentation.RandomAffine(10.0)]
    waits, reads = fv.wrap(nn.Sequential(Waits())), fv.Channel("conv", 1) + 2 * reads_back("conv")
    sgd: Any = lambda leaves: torch.optim.SGD(leaves, 0.1)  # noqa: E731
    cases: list[tuple[fv.Ascent, str]] = [
        (ascent_of(tiny, "conv:1", transforms=sick), "the transform Kornia("),
        (ascent_of(tiny, "conv:1", optimizer=torch.optim.Adagrad), "the optimizer Adagrad needs the host"),
        (ascent_of(tiny, "conv:1", optimizer=sgd), "the optimizer SGD reads its learning rate on the host"),
        (ascent_of(tiny, reads), "the objective reads_back(conv) goes through the host (__float__"),
        (ascent_of(waits, "0:1"), "the network Sequential goes through the host (__bool__"),
    ]
    for ascent, reason in cases:
        before = ascent.images()
        named = why_not(ascent)
        assert len(named) == 2, named
        assert named[1].startswith(reason), named
        assert (ascent.steps_done, int(ascent.rng.step), int(ascent.done)) == (0, 0, 0)
        assert torch.equal(ascent.images(), before)
    assert why_not(ascent_of(tiny, "conv:1", optimizer=lambda p: torch.optim.SGD(p, 0.1, fused=True))) == [ON_CPU]


def test_what_cannot_be_captured_runs_eagerly_and_says_so(tiny: fv.TappedModel) -> None:
    ascent = ascent_of(tiny, "conv:1")
    with pytest.raises(Uncapturable, match="the step cannot be captured: the model is on cpu"):
        CudaGraphStep(ascent)
    assert stepper(ascent, "auto") is stepper(ascent, False) is ascent
    with pytest.warns(RuntimeWarning, match="the model is on cpu.*It runs eagerly"):
        assert stepper(ascent, True) is ascent
    with pytest.raises(InvalidInput, match="capture='yes' was given"):
        fv.Runtime(capture="yes")  # pyright: ignore[reportArgumentType]
    options: dict[str, Any] = {"steps": 3, "size": 24, "progress": False}
    with pytest.warns(RuntimeWarning, match="cannot be captured"):
        made = fv.render(tiny, "conv:1", runtime=fv.Runtime(capture=True), **options)
    assert torch.equal(made.images, fv.render(tiny, "conv:1", **options).images)


# ------------------------------------------------------------------------ the order of things, with a stand-in for CUDA
@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[fv.Ascent], None]:
    """CUDA's part played by Python: recording runs the step, and so does a replay."""

    class Graph:
        ascent: fv.Ascent

        def replay(self) -> None:
            done = self.ascent.steps_done
            self.ascent.step()
            self.ascent.steps_done = done  # a replay runs no Python

        def pool(self) -> None:
            return None

    class Stream:
        def wait_stream(self, other: Any) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    def play(ascent: fv.Ascent) -> None:
        Graph.ascent = ascent
        monkeypatch.setattr("featureviz.ascent.cuda_graph.why_not", lambda ascent: [])
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        for name in ("Stream", "current_stream", "stream", "device", "graph"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, **__: Stream())

    return play


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("begun", [0, 2, 5])
def test_making_graphs_leaves_an_ascent_as_it_was(
    tiny: fv.TappedModel, no_cuda: Callable[[fv.Ascent], None], name: str, begun: int
) -> None:
    schedule = fv.Scheduled(OPTIMIZERS[name], lambda share: 0.1 / (1 + 16 * share))
    stages = [Jitter(4), Until(Noise(0.1), 0.25)]
    options: dict[str, Any] = {"redirect": 3, "optimizer": schedule, "steps": 16, "transforms": stages}
    eager, ascent = (ascent_of(tiny, "conv:[1, 2]", **options) for _ in range(2))
    eager.run(begun)
    ascent.run(begun)
    no_cuda(ascent)
    captured = CudaGraphStep(ascent)
    assert torch.equal(ascent.images(), eager.images())
    assert torch.equal(ascent.scores, eager.scores)
    assert (ascent.steps_done, int(ascent.rng.step)) == (begun, begun)
    captured.run(7)
    eager.run(7)
    assert torch.allclose(ascent.scores, eager.scores, rtol=1e-4, atol=1e-5)
    assert torch.allclose(ascent.images(), eager.images(), atol=1e-4)
    assert ascent.steps_done == begun + 7


# ---------------------------------------------------------------------------------------------------------- on a device
def cuda(test: Any) -> Any:
    return pytest.mark.cuda(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")(test))


GATES = fv.Gate("features.7.block.2", [3, 14, 15, 92])


@pytest.fixture(scope="module")
def there(embedded: fv.TappedModel) -> fv.TappedModel:
    return embedded.on("cuda")


def on_device(model: fv.TappedModel, goal: fv.Objective = GATES, **options: Any) -> fv.Ascent:
    return ascent_of(model, goal, 4, **{"size": 64, "redirect": 5, **options})


@cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["adam", "nadam", "rmsprop", "fused sgd"])
def test_captured_scores_are_eager_scores(there: fv.TappedModel, name: str, precision: Any) -> None:
    makers = {**OPTIMIZERS, "fused sgd": lambda p: torch.optim.SGD(p, 0.5, momentum=0.9, dampening=0.5, fused=True)}
    eager, ascent = (on_device(there, optimizer=makers[name], precision=precision) for _ in range(2))
    eager.run(30)
    CudaGraphStep(ascent).run(30)
    assert ascent.steps_done == 30
    slack = 2e-2 if precision == "float32" else 1e-1  # resampling adds its gradients in any order
    assert torch.allclose(ascent.scores[:30], eager.scores[:30], rtol=slack, atol=slack)
    ascent.check()


@cuda
@pytest.mark.usefixtures("no_tf32")
def test_captured_without_resampling_is_eager(there: fv.TappedModel) -> None:
    eager, ascent = (on_device(there, transforms=[], size=there.input_size((64, 64))) for _ in range(2))
    eager.run(30)
    CudaGraphStep(ascent).run(30)
    assert torch.allclose(ascent.scores[:2], eager.scores[:2], rtol=1e-3, atol=1e-4)
    assert torch.allclose(ascent.scores[:30], eager.scores[:30], rtol=2e-2, atol=2e-2)  # rounding grows with the steps


@cuda
def test_every_replay_draws_the_views_of_its_step(there: fv.TappedModel) -> None:
    still = fv.Adam(1e-12)
    eager, ascent = (on_device(there, optimizer=still, redirect=0) for _ in range(2))
    eager.run(6)
    CudaGraphStep(ascent).run(6)
    assert torch.allclose(ascent.scores[:6], eager.scores[:6], rtol=1e-4, atol=1e-4)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(ascent.scores[1:5], ascent.scores[2:6], strict=True))


@cuda
def test_a_transform_ends_in_replays_too(there: fv.TappedModel) -> None:
    options: dict[str, Any] = {"optimizer": fv.Adam(1e-12), "redirect": 2, "steps": 8}
    scheduled, noisy, plain = (
        on_device(there, transforms=stages, **options)
        for stages in ([Until(Noise(0.2), 0.5)], [Noise(0.2)], list[Transform]())
    )
    CudaGraphStep(scheduled).run(8)
    noisy.run(8)
    plain.run(8)
    expected = torch.cat([noisy.scores[:4], plain.scores[4:]])
    assert torch.allclose(scheduled.scores, expected, rtol=1e-4, atol=1e-4)


@cuda
def test_a_replay_allocates_nothing(there: fv.TappedModel) -> None:
    captured = CudaGraphStep(on_device(there))
    captured.run(8)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(5):
        captured.step()
    torch.cuda.synchronize()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@cuda
def test_a_step_that_cannot_be_captured_is_named_and_still_runs(there: fv.TappedModel) -> None:
    waits = on_device(there, GATES + reads_back("features.4"))
    with pytest.raises(Uncapturable, match=r"the objective reads_back\(features.4\) goes through the host"):
        CudaGraphStep(waits)
    guess = on_device(there, transforms=[Guess()])
    with pytest.raises(Uncapturable, match="replayed, it gives another score"):
        CudaGraphStep(guess)
    for ascent in (waits, guess):
        with pytest.warns(RuntimeWarning, match="It runs eagerly"):
            assert stepper(ascent, "auto") is ascent
        ascent.run(3)
        assert ascent.scores[:3].all()


@cuda
def test_a_schedule_takes_effect(there: fv.TappedModel) -> None:
    still = fv.Scheduled(fv.Adam(), lambda share: 0.0 if 0.5 <= share < 0.6875 else 0.05)  # in steps 8, 9 and 10 of 16
    ascent = on_device(there, optimizer=still, steps=16)
    captured, pictures = CudaGraphStep(ascent), list[Tensor]()
    for steps in (8, 3, 3):
        captured.run(steps)
        pictures.append(ascent.images())
    eager = on_device(there, optimizer=still, steps=16)
    eager.run(11)
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])
    assert torch.allclose(pictures[1], eager.images(), atol=2e-2)


@cuda
def test_an_intervention_in_force_is_captured(there: fv.TappedModel) -> None:
    def last(**options: Any) -> Tensor:
        ascent = on_device(there, fv.Channel("features.9", 3), optimizer=fv.Adam(1e-12), transforms=[], **options)
        CudaGraphStep(ascent).run(4)
        return ascent.scores[3, 0]

    plain = last()
    with fv.clamp(there, "features.7.block.2", 0.0):
        clamped = last()
    assert abs(clamped - plain) > 1e-3 * abs(plain)
    assert torch.allclose(last(), plain, rtol=1e-3)


@cuda
def test_a_batch_that_does_not_fit_is_halved_and_captured(there: fv.TappedModel) -> None:
    options: dict[str, Any] = {"n": 64, "size": 64, "views": 4}
    whole, tight = (ascent_of(there, "features.9:3", **options) for _ in range(2))
    whole.run(3)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    whole.step()
    need, total = torch.cuda.max_memory_allocated() - before, torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.6 * need) / total)
    try:
        tight.run(3)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(tight.microbatches) > 1
    assert torch.allclose(tight.scores[:3], whole.scores[:3], rtol=1e-2, atol=1e-2)
    CudaGraphStep(tight).run(3)
    assert torch.isfinite(tight.scores[3:6]).all()
    assert tight.scores[3:6].any()
