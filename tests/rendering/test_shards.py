"""Several devices: the same images as on one, in order; trouble on one of them stops all."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
import objectives_zoo as zoo
from featureviz.errors import InvalidInput
from featureviz.lab import GateStatistics
from featureviz.rendering import shards
from featureviz.rendering.shards import Worker, copy_to_devices, run_side_by_side, select_images, split_images

TWO = ["cpu", "cpu"]


def quick(model: fv.TappedModel, goal: Any, **options: Any) -> fv.Rendering:
    return fv.render(model, goal, **{"steps": 6, "size": 24, "progress": False, **options})


@fv.objective
def blows_up(a: Tensor, limit: float) -> Tensor:
    """NaN once the mean passes ``limit``."""
    mean = a.mean((1, 2, 3))
    return mean + 0 * torch.log(limit - mean)


@fv.objective
def interrupts(a: Tensor, after: list[int]) -> Tensor:
    """As Ctrl-C in the main thread, ``after[0]`` calls from now."""
    after[0] -= 1
    if after[0] == 0:
        import _thread

        _thread.interrupt_main()
    return a.mean((1, 2, 3))


# ------------------------------------------------------------------------------------------------------------- the law
@pytest.mark.parametrize("goal", ["conv:[1, 2, 3]", "[conv:1, -gate:se:2, logit:3, conv:1*logit:1, conv:5]", "conv:4"])
def test_several_devices_make_the_images_of_one(tiny: fv.TappedModel, goal: str) -> None:
    n = max(fv.parse(goal).n, 3)
    options = {"views": 2, "snapshots": [2, 6], "seed": 3, "image_ids": [7, 1, 4, 0, 2][:n]}
    if fv.parse(goal).n == 1:
        options["image"] = fv.FourierImage(n, 24, image_ids=[7, 1, 4])
    one, two = quick(tiny, goal, **options), quick(tiny, goal, device=TWO, **options)
    # A batch of another size is summed in another order, and Adam turns such noise into steps.
    assert torch.allclose(two.images, one.images, atol=2e-3)
    assert torch.allclose(two.scores, one.scores, rtol=1e-3, atol=1e-4)
    assert torch.allclose(two.held_out.scores, one.held_out.scores, rtol=1e-3, atol=1e-3)
    assert two.specs == one.specs
    assert two.recipe == one.recipe
    assert two.snapshots.keys() == one.snapshots.keys() == {2, 6}
    assert torch.allclose(two.snapshots[2], one.snapshots[2], atol=2e-3)
    assert not torch.allclose(one.images[0], one.images[2], atol=2e-2)


def test_each_thread_has_a_network_of_its_own(tiny: fv.TappedModel) -> None:
    here, there = copy_to_devices(tiny, TWO)
    assert here is tiny
    assert there is not tiny
    mine, theirs = ({t.data_ptr() for t in m.net.state_dict().values()} for m in (here, there))
    assert not mine & theirs
    assert copy_to_devices(tiny, None) == [tiny]


def test_more_devices_than_images(tiny: fv.TappedModel) -> None:
    assert torch.equal(quick(tiny, "conv:1", device=["cpu"] * 3).images, quick(tiny, "conv:1").images)


def test_an_own_starting_image_and_interventions_go_along(tiny: fv.TappedModel) -> None:
    picture = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with fv.clamp(tiny, "se", 0.25):
        one, two = (quick(tiny, "conv:[1, 2, 3]", image=picture, device=d) for d in (None, TWO))
    plain = quick(tiny, "conv:[1, 2, 3]", image=picture)
    assert torch.allclose(two.images, one.images, atol=2e-3)
    assert not torch.allclose(plain.scores, one.scores, atol=1e-3)


# -------------------------------------------------------------------------------------------------- parts of objectives
def test_a_part_asks_what_the_whole_asks_of_its_images(tiny: fv.TappedModel) -> None:
    natural = GateStatistics.measure(tiny, [torch.rand(32, 3, 24, 24, generator=torch.Generator().manual_seed(1))])
    units = [3, 1, 4, 1]
    several: list[fv.Objective] = [
        fv.Channel("conv", units), fv.Neuron("conv", units, 2, 3), fv.Gate("se", units), fv.Logit([3, "bee", 4, 1]),
        fv.Direction("conv", torch.eye(8)[units], 2), fv.GateValue("se", units), fv.GatedChannel("se", units),
        fv.PreGate("se", units), fv.Bottleneck("se", [3, 1, 0, 1]), fv.GateContrast("se", units, natural, sign=-1),
        fv.Quadrant("se", units, natural, gate="shut"), 2 * fv.Channel("conv", units) - fv.Logit(2) + 1,
        fv.Channel("conv", units) * fv.Logit([1, 2, 3, 0]), fv.PerImage([fv.Channel("conv", u) for u in units]),
    ]  # fmt: skip
    x, half = torch.rand(8, 3, 24, 24), [2, 1]
    for whole in several:
        part = whole.select(half)
        assert (part.n, type(part)) == (2, type(whole))  # its one gather is kept
        every = whole(tiny(x, whole.layers, fv.Rows.make(4, 2))).view(4, 2)
        some = x.view(4, 2, *x.shape[1:])[half].flatten(0, 1)
        assert torch.allclose(part(tiny(some, part.layers, fv.Rows.make(2, 2))).view(2, 2), every[half], atol=1e-5)
        assert whole.select([2]).n == 1
    one = fv.Channel("conv", 3)
    assert one.select([0, 5]) is one


def test_a_part_of_an_image_is_its_rows() -> None:
    whole = fv.FourierImage(4, (9, 8), seed=3)
    part = select_images(whole, range(1, 3))
    assert len(part) == 2
    assert torch.equal(part(), whole()[1:3])
    assert len(whole) == 4


# ------------------------------------------------------------------------------------------------------------- trouble
def test_what_looks_across_the_batch_is_not_split(tiny: fv.TappedModel) -> None:
    goal = fv.Channel("conv", [3, 3]) + zoo.Diversity("conv")
    with pytest.warns(RuntimeWarning, match="looks across the batch"):
        two = quick(tiny, goal, device=TWO)
    assert torch.equal(two.images, quick(tiny, goal).images)


def test_the_first_error_wins_and_the_others_stop(tiny: fv.TappedModel) -> None:
    goal = [fv.Channel("conv", 1), blows_up("input", 0.51)]
    start = torch.stack([torch.full((3, 24, 24), 0.3), torch.full((3, 24, 24), 0.5)])
    with pytest.raises(fv.NonFinite, match="blows_up") as caught:
        quick(tiny, goal, image=start, device=TWO, steps=5000, transforms=[])
    made = caught.value.rendering
    assert made is not None
    assert len(made) == 2
    assert len(made.scores) == caught.value.step == made.recipe["steps done"] < 5000
    assert torch.isfinite(made.images).all()


def test_an_ordinary_error_is_raised_as_it_is(tiny: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match="channel 99"):
        quick(tiny, "[conv:1, conv:99]", device=TWO, steps=5000)


@pytest.fixture
def listens() -> Iterator[None]:
    """Ctrl-C is heard, also where the shell that runs the tests in its background has turned it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens")
def test_control_c_stops_all_at_the_same_step(tiny: fv.TappedModel) -> None:
    goal = fv.PerImage([fv.Channel("conv", 1), interrupts("conv", [8])])
    made = quick(tiny, goal, device=TWO, **fv.plain(5000))  # without a schedule of the share of the steps
    assert made.interrupted
    assert 0 < len(made.scores) < 5000
    # Both images are those of so many steps; two more rows of scores would be of one image only.
    again = quick(tiny, "[conv:1, conv:1]", **fv.plain(len(made.scores)))
    assert torch.allclose(made.images[0], again.images[0], atol=2e-3)


@pytest.mark.parametrize("submitted", [0, 1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("can't start new thread")])
def test_control_c_while_threads_begin_leaves_none(
    monkeypatch: pytest.MonkeyPatch, submitted: int, error: BaseException
) -> None:
    submit, calls = shards.ThreadPoolExecutor.submit, list[int]()

    def interrupted(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > submitted:
            raise error
        return submit(self, *args)

    def work(worker: Worker) -> None:
        for _ in range(100_000):
            worker.tick()
            time.sleep(1e-3)

    before = threading.active_count()
    monkeypatch.setattr(shards.ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(type(error)):
        run_side_by_side([work] * 3, [fv.wrap(nn.Identity())] * 3)
    assert threading.active_count() == before


def test_workers_stop_at_one_tick() -> None:
    ended, meet = [0, 0, 0], threading.Barrier(3)

    def work(worker: Worker, number: int) -> None:
        meet.wait()
        try:
            for tick in range(1, 100_000):
                ended[number] = tick
                if number == 2 and tick == 500:
                    worker.stop()
                worker.tick()
        except KeyboardInterrupt:
            pass

    run_side_by_side([lambda worker, i=i: work(worker, i) for i in range(3)], [fv.wrap(nn.Identity())] * 3)
    assert len(set(ended)) == 1
    assert 500 <= ended[0] < 100_000


@pytest.mark.parametrize(
    ("device", "message"), [(["cpu", "nonsense"], "device='nonsense' cannot be used"), ([], "names no device")]
)
def test_bad_devices_are_named(tiny: fv.TappedModel, device: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        quick(tiny, "conv:1", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are CUDA devices")
def test_all_of_no_cuda_devices(tiny: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match="device='cuda:all' names no device that is here"):
        quick(tiny, "conv:1", device="cuda:all")


def test_rows_that_are_not_the_images_cannot_be_shared(tiny: fv.TappedModel) -> None:
    class Shared(fv.PixelImage):
        def __init__(self) -> None:
            super().__init__(2, 24)
            self.colour = nn.Parameter(torch.zeros(3, 1, 1))

        def forward(self) -> Tensor:
            return torch.sigmoid(self.pixels + self.colour)

    with pytest.raises(InvalidInput, match=r"Shared\.colour is \[3, 1, 1\] for 2 images"):
        split_images(copy_to_devices(tiny, TWO), fv.Channel("conv", 1), Shared())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["cuda:all", ["cuda:0", "cuda:0", "cpu"]])
@pytest.mark.usefixtures("no_tf32")
def test_cuda_devices_share_the_images(embedded: fv.TappedModel, device: Any) -> None:
    goal = fv.Gate("features.7.block.2", [3, 14, 15])
    one, many = (fv.render(embedded, goal, steps=40, size=64, device=d, progress=False) for d in ("cuda:0", device))
    assert embedded.device.type == "cpu"
    assert torch.allclose(one.scores[:10], many.scores[:10], rtol=1e-2, atol=1e-2)
    # Rounding grows with the steps.
    assert torch.allclose(one.held_out.scores, many.held_out.scores, rtol=1e-1, atol=1e-1)
