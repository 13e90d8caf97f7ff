"""Every peer's adapter climbs, where the peer is there; what setup_peers installs stays clear of the project's own."""

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
PINS = setup_peers.packages(list(setup_peers.PEERS))


def contender(peer: str, name: str):
    return getattr(importlib.import_module(f"benchmarks.contenders.{peer}"), name)


@pytest.mark.filterwarnings("ignore")
@CASES
def test_climbs(peer: str, name: str) -> None:
    pytest.importorskip(peer)
    task = Task(layer="features.3", units=(0, 1), size=64, input=64, weights="")
    one = contender(peer, name)(task)
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
    assert (moved > 1e-3).all(), "each image takes part in a step"
    torch.testing.assert_close(contender(peer, name)(task).images(), before)  # the same seed, the same start


@pytest.mark.filterwarnings("ignore")
@CASES
def test_images_follow_their_units(peer: str, name: str) -> None:
    """The first image moves as it does whichever unit the second climbs; the second moves by its unit."""
    pytest.importorskip(peer)

    def moves(units: tuple[int, int]) -> torch.Tensor:
        one = contender(peer, name)(Task(layer="features.3", units=units, size=64, input=64, weights=""))
        before = one.images()
        one.step()
        return one.images() - before

    ours, other = moves((0, 1)), moves((0, 5))
    assert not torch.allclose(ours[1], other[1], atol=1e-3)
    cosine = torch.nn.functional.cosine_similarity(ours[0].flatten(), other[0].flatten(), dim=0)
    assert cosine > 0.99


@pytest.mark.parametrize("peer", CONTENDERS)
def test_adapters_need_no_peer_to_be_read(peer: str) -> None:
    for name in CONTENDERS[peer]:
        found = contender(peer, name)
        assert found.notes
        assert {p.partition("==")[0] for p in setup_peers.PEERS[peer]} >= set(found.versions) - {"kornia"}


def test_every_package_is_pinned_once() -> None:
    for pin in PINS:
        assert re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+", pin)
    names = [pin.partition("==")[0] for pin in PINS]
    assert len(set(names)) == len(names)


def test_no_package_of_the_project_is_replaced() -> None:
    """What the project names stays as it is installed: peers are beside it. Only plots take any matplotlib."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [extra for name, extra in project["optional-dependencies"].items() if name != "bench"]
    named = [*project["dependencies"], "pillow", *(package for extra in extras for package in extra)]
    ours = {re.split(r"[<>=!~\[; ]", name)[0].lower() for name in named}
    assert {"torch", "torchvision", "kornia", "numpy"} <= ours
    assert not ours & {pin.partition("==")[0] for pin in PINS}


def test_setup_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SystemExit, match="not empty"):
        setup_peers.install(tmp_path, ["lucent"])
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
