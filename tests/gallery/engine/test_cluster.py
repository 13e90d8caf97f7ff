"""The engine on a cluster of Ray: the pixels of the local engine, lost workers, killed drivers, Ctrl-C, errors."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError
from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.engine.cluster import RayEngine
from featureviz.gallery.engine.run import render_plan
from featureviz.gallery.engine.worker import Job, Worker
from featureviz.gallery.planning.plan import Plan, plan

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'featureviz[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore:no worker of Ray has started:RuntimeWarning")  # on a busy machine
ROOT = Path(__file__).parents[3]
BATCHES = 12


@dataclass(frozen=True, repr=False)
class Noted:
    """Makes images, and notes each batch that begins, with its process, as a file in ``folder``."""

    folder: str
    seconds: float = 0.2

    def __repr__(self) -> str:
        return "Noted()"

    def __call__(self, n: int, size: int, *, seed: int = 0, image_ids: list[int] | None = None) -> fv.PixelImage:
        Path(self.folder, f"{time.time_ns()}-{os.getpid()}").touch()
        time.sleep(self.seconds)
        return fv.PixelImage(n, size, seed=seed, image_ids=image_ids)


class Unsendable(RuntimeError):
    """An error that cannot be read from its pickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@dataclass(frozen=True, repr=False)
class Failing:
    """Makes no image, but warns and raises an error."""

    error: type[Exception] = ModelError

    def __repr__(self) -> str:
        return "Failing()"

    def __call__(self, n: int, size: int, *, seed: int = 0, image_ids: list[int] | None = None) -> fv.PixelImage:
        warnings.warn("soon", UserWarning, stacklevel=2)
        raise self.error(*["no image"] * (1 + (self.error is Unsendable))) from ValueError("the cause")


def make_plan(model: fv.TappedModel, image: Any) -> Plan:
    return plan(model, layers="conv", gates="se", units=range(6), batch=2, steps=8, size=24, image=image)


def notes(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def process(note: Path) -> int:
    return int(note.name.split("-")[1])


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("tiles/*/*.png"))}


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster that the caller has started."""
    before = dict(os.environ), signal.getsignal(signal.SIGTERM)
    cores = 2 * torch.get_num_threads()
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before[1])
    for name in os.environ.keys() - before[0].keys():
        del os.environ[name]


def test_two_workers_give_the_pixels_of_the_local_engine(
    tiny: fv.TappedModel, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made, before = make_plan(tiny, Noted(str(folder / "notes"))), dict(os.environ)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    render_plan(made, tiny, folder / "local", progress=False)
    assert {process(note) for note in notes(folder / "notes")} == {os.getpid()}
    there = render_plan(made, tiny, folder / "ray", engine=RayEngine(workers=2), progress=False)
    assert pictures(folder / "ray") == pictures(folder / "local")
    assert len(there.tiles()) == len(made) == 2 * BATCHES
    assert there.about["run"]["engine"] == "RayEngine"
    workers = {process(note) for note in notes(folder / "notes")} - {os.getpid()}
    assert len(workers) == 2
    assert len(notes(folder / "notes")) == 2 * BATCHES
    assert not ray.is_initialized()
    wait_until(lambda: all(map(is_gone, workers)), 60)
    assert dict(os.environ) == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "network_util" not in line] == []  # Ray tells that there is no network


def test_a_cluster_that_does_not_answer_is_told_at_once(tiny: fv.TappedModel, folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot join the cluster of Ray at '127\.0\.0\.1:1'"):
        render_plan(
            make_plan(tiny, fv.PixelImage), tiny, folder, engine=RayEngine(address="127.0.0.1:1"), progress=False
        )


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_is_replaced_and_only_its_batch_is_rendered_again(tiny: fv.TappedModel, folder: Path) -> None:
    def killing(model: fv.TappedModel, batches: Any, options: Any) -> Generator[Any]:
        for number, tiles in enumerate(RayEngine(workers=2)(model, batches, options), 1):
            yield tiles
            if number == 3:
                # Three have ended, and the worker of the third has begun another; the other worker may still start.
                wait_until(lambda: len(notes(folder / "notes")) >= 4)
                os.kill(process(notes(folder / "notes")[-1]), signal.SIGKILL)

    with fv.clamp(tiny, "se", 0.5, units=[1, 2]):
        made = make_plan(tiny, Noted(str(folder / "notes"), 1.0))
        with pytest.warns(RuntimeWarning, match="a worker of Ray was lost while it rendered"):
            render_plan(made, tiny, folder / "ray", engine=killing, progress=False)
        assert len(notes(folder / "notes")) == BATCHES + 1
        render_plan(made, tiny, folder / "local", progress=False)
    assert pictures(folder / "ray") == pictures(folder / "local")
    assert len(pictures(folder / "ray")) == len(made)
    assert ray.is_initialized()  # the caller's own stays


@pytest.mark.usefixtures("cluster", "control_c")
def test_ctrl_c_ends_the_run_and_its_workers(tiny: fv.TappedModel, folder: Path) -> None:
    made = make_plan(tiny, Noted(str(folder / "notes"), 0.3))

    def interrupt() -> None:
        wait_until(lambda: len(notes(folder / "notes")) >= 4)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        render_plan(made, tiny, folder / "ray", engine=RayEngine(workers=1), progress=False)
    thread.join()
    wait_until(lambda: is_gone(process(notes(folder / "notes")[-1])), 60)
    stored = len(fv.gallery.Gallery.open(folder / "ray").tiles())
    assert 0 < stored < len(made)
    begun = len(notes(folder / "notes"))
    render_plan(made, tiny, folder / "ray", progress=False)
    assert len(notes(folder / "notes")) == begun + BATCHES - stored // 2
    assert len(pictures(folder / "ray")) == len(made)


@pytest.mark.usefixtures("cluster")
def test_an_error_and_a_warning_in_a_batch_arrive_as_themselves(tiny: fv.TappedModel, folder: Path) -> None:
    with pytest.warns(UserWarning, match="soon"), pytest.raises(ModelError, match=r"^no image\n") as caught:
        render_plan(make_plan(tiny, Failing()), tiny, folder, engine=RayEngine(workers=1), progress=False)
    assert type(caught.value) is ModelError
    assert repr(caught.value.__cause__) == "ValueError('the cause')"
    assert "In a worker" in caught.value.__notes__[0]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        (RayEngine(address="auto"), None, "connected to a cluster already"),
        (RayEngine(threads=4000), None, r"expected at most 0, because the cluster has \d+ cores and 0 GPUs"),
        (RayEngine(gpus=1), None, "expected at most 0"),
        (RayEngine(), "cpu", r"RayEngine\(gpus="),
    ],
)
def test_what_the_cluster_cannot_do_is_told(
    engine: RayEngine, device: str | None, message: str, tiny: fv.TappedModel, folder: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        render_plan(make_plan(tiny, fv.PixelImage), tiny, folder, engine=engine, device=device, progress=False)


def drive(out: str, noted: str) -> None:
    """What the process does that is killed."""
    from tests.conftest import TinySE

    torch.manual_seed(0)
    model = fv.wrap(TinySE().train(), mean=0.5, std=0.25, size=24, labels=["ant", "bee", "cat", "dog", "eel"])
    render_plan(make_plan(model, Noted(noted, 0.5)), model, out, engine=RayEngine(workers=1), progress=False)


def test_a_killed_driver_leaves_no_worker_and_a_folder_that_goes_on(tiny: fv.TappedModel, folder: Path) -> None:
    code = "import sys; from tests.gallery.engine.test_cluster import drive; drive(*sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", code, str(folder / "ray"), str(folder / "notes")]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as driver:
        wait_until(lambda: len(notes(folder / "notes")) == 4)
        wait_until(lambda: len(fv.gallery.Gallery.open(folder / "ray").tiles()) >= 6)  # three batches are stored
        driver.kill()
    wait_until(lambda: is_gone(process(notes(folder / "notes")[-1])), 60)
    made = make_plan(tiny, Noted(str(folder / "notes"), 0))
    render_plan(made, tiny, folder / "ray", progress=False)
    assert BATCHES < len(notes(folder / "notes")) <= BATCHES + 2  # one was in flight, or also one just came back
    render_plan(made, tiny, folder / "local", progress=False)
    assert pictures(folder / "ray") == pictures(folder / "local")


def test_a_worker_gets_all_that_a_network_has(tiny: fv.TappedModel) -> None:
    class Own(nn.Module):
        """A class that only this function knows."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor, scale: float) -> Tensor:
            return self.conv(x).relu() * scale

    own = fv.wrap(Own(), size=24, labels=["a", "b"], forward_fn=lambda net, x: net(x, 2.0))
    own.dictionaries["twice"] = "conv", nn.Conv2d(8, 16, 1)
    for model, layer in ((tiny, "conv"), (own, "conv")):
        made = plan(model, layers=layer, units=[1], steps=4, size=24)
        worker = Worker(torch.get_num_threads(), "cpu")
        assert worker.prepare(Job.pack(model, made.recipe.options)).error is None
        assert worker.model.labels == model.labels
        assert list(worker.model.gates) == list(model.gates)
        assert list(worker.model.dictionaries) == list(model.dictionaries)
        pngs = [tile.png for tile in worker.render(made.tiles).made]
        assert pngs == [tile.png for tile in render_batch(model, made.tiles, made.recipe.options)]


def test_what_cannot_be_sent_is_told(tiny: fv.TappedModel) -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    with pytest.raises(InvalidInput, match="the network Sequential cannot be sent to workers"):
        Job.pack(fv.wrap(net, size=16), {})
    with pytest.raises(InvalidInput, match="an option of the recipe cannot be sent"):
        Job.pack(tiny, {"image": threading.Lock()})
    with pytest.raises(InvalidInput, match="the process that plans has featureviz 9;"):
        raise Worker(1, "cpu").prepare(Job(b"", b"", b"", "", {"featureviz": "9"})).error or AssertionError
    worker = Worker(torch.get_num_threads(), "cpu")
    made = make_plan(tiny, Failing(Unsendable))
    assert worker.prepare(Job.pack(tiny, made.recipe.options)).error is None
    outcome = worker.render(made.tiles[:2])
    assert repr(outcome.error) == "ModelError('Unsendable: no image no image')"
    assert outcome.warned == [("soon", UserWarning)]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInput, match=r"featureviz\[ray\]"):
        RayEngine()


def test_another_network_in_the_worker_is_told(tiny: fv.TappedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job.pack(tiny, {})
    monkeypatch.setattr("featureviz.gallery.engine.worker.take_fingerprint", lambda model: "other")
    assert "another network in a worker" in str(Worker(torch.get_num_threads(), "cpu").prepare(job).error)


@pytest.mark.parametrize("options", [{"workers": 0}, {"threads": 1.5}, {"gpus": -1}, {"gpus": 1.5}, {"address": 3}])
def test_wrong_arguments_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        RayEngine(**options)
