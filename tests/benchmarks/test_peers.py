"""The adapter of every installed peer raises its scores; setup_peers replaces no package of the project."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import torch

from benchmarks import setup_peers
from benchmarks.contenders.base import Task

CONTENDERS = {
    "lucent": ["Lucent"],
    "dreamlens": ["DreamLens", "DreamLensBatched", "DreamLensOptimize"],
    "torch_dreams": ["TorchDreams"],
    "faccent": ["Faccent"],
    "horama": ["Horama"],
}
CASES = pytest.mark.parametrize(
    ("peer", "name"), [(peer, name) for peer, names in CONTENDERS.items() for name in names]
)
PINS = setup_peers.list_packages(list(setup_peers.PEERS))


def load_class(peer: str, name: str):
    return getattr(importlib.import_module(f"benchmarks.contenders.{peer}"), name)


@pytest.mark.filterwarnings("ignore")
@CASES
def test_a_step_moves_every_image(peer: str, name: str) -> None:
    pytest.importorskip(peer)
    task = Task(layer="features.3", units=(0, 1), size=64, input=64, weights="")
    one = load_class(peer, name)(task)
    before = one.images()
    one.step()
    one.step()
    after = one.images()
    for images in (before, after):
        assert images.shape == (2, 3, 64, 64)
        assert not images.requires_grad
        assert images.device.type == "cpu"
        assert 0 <= float(images.min()) < float(images.max()) <= 1
    moved = (after - before).abs().amax((1, 2, 3))
    assert (moved > 1e-3).all(), "a step moves every image"
    torch.testing.assert_close(load_class(peer, name)(task).images(), before)  # the same seed gives the same start


@pytest.mark.filterwarnings("ignore")
@CASES
def test_images_follow_their_units(peer: str, name: str) -> None:
    """The first image moves the same way whatever the unit of the second; the second follows its unit."""
    pytest.importorskip(peer)

    def measure_moves(units: tuple[int, int]) -> torch.Tensor:
        tool = load_class(peer, name)(Task(layer="features.3", units=units, size=64, input=64, weights=""))
        before = tool.images()
        tool.step()
        return tool.images() - before

    one, other = measure_moves((0, 1)), measure_moves((0, 5))
    assert not torch.allclose(one[1], other[1], atol=1e-3)
    cosine = torch.nn.functional.cosine_similarity(one[0].flatten(), other[0].flatten(), dim=0)
    assert cosine > 0.99


@pytest.mark.parametrize("peer", CONTENDERS)
def test_adapters_can_be_imported_without_their_peer(peer: str) -> None:
    for name in CONTENDERS[peer]:
        adapter = load_class(peer, name)
        assert adapter.notes
        assert {p.partition("==")[0] for p in setup_peers.PEERS[peer]} >= set(adapter.versions) - {"kornia"}


def test_every_package_is_pinned_once() -> None:
    for pin in PINS:
        assert re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+", pin)
    names = [pin.partition("==")[0] for pin in PINS]
    assert len(set(names)) == len(names)


def test_no_package_of_the_project_is_replaced() -> None:
    """No peer pins a dependency of the project, except matplotlib, which only the extra ``bench`` needs."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [extra for name, extra in project["optional-dependencies"].items() if name != "bench"]
    named = [*project["dependencies"], "pillow", *(package for extra in extras for package in extra)]
    own = {re.split(r"[<>=!~\[; ]", name)[0].lower() for name in named}
    assert {"torch", "torchvision", "kornia", "numpy"} <= own
    assert not own & {pin.partition("==")[0] for pin in PINS}


def test_setup_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SystemExit, match="not empty"):
        setup_peers.install(tmp_path, ["lucent"])
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
