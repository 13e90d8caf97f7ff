"""Files of unit statistics: all comes back, and whatever else is in a file, the error names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.lab import UnitStatistics
from featureviz.lab.statistics.pictures import Batch

Saved = dict[str, Any]


@pytest.fixture
def measured(tiny: fv.TappedModel) -> UnitStatistics:
    batch = Batch(torch.rand(12, 3, 24, 24), None, tuple(f"\udcff{i}.png" for i in range(12)))
    return UnitStatistics.measure(tiny, [batch], ["conv"], ["se"], units={"conv": [1, 5]}, most=3, joint=True)


def test_saved_statistics_come_back(measured: UnitStatistics, tmp_path: Path) -> None:
    measured.save(tmp_path / "units.pt")
    again = UnitStatistics.load(tmp_path / "units.pt")
    assert [*again.layers] == ["conv", "gate:se"]
    for name, layer in measured.layers.items():
        assert layer.tensors.keys() == again[name].tensors.keys()
        assert all(torch.equal(again[name].tensors[k], v) for k, v in layer.tensors.items())
    assert (again.count, again.size, again.names) == (measured.count, (24, 24), measured.names)
    assert (again.skipped, again.interrupted) == ((), False)
    assert again.examples("conv", 5) == measured.examples("conv", 5)
    assert again.nearest("gate:se", 2) == measured.nearest("gate:se", 2)


def in_layer(saved: Saved, **change: Any) -> Saved:
    return saved | {"units": {"conv": saved["units"]["conv"] | change}}


CHANGES: dict[str, Callable[[Saved], Any]] = {
    "a list": lambda saved: [1, 2],
    "nothing": lambda saved: {},
    "weights": lambda saved: {"conv.weight": torch.zeros(2)},
    "other levels": lambda saved: saved | {"levels": [0.0, 1.0]},
    "no count": lambda saved: saved | {"count": "many"},
    "no size": lambda saved: saved | {"size": 24},
    "layers as a list": lambda saved: saved | {"units": [1]},
    "a layer as a tensor": lambda saved: saved | {"units": {"conv": torch.zeros(3)}},
    "a number for a tensor": lambda saved: in_layer(saved, mean=3),
    "other channels": lambda saved: in_layer(saved, mean=torch.zeros(5)),
    "another shape": lambda saved: in_layer(saved, highest_boxes=torch.zeros(3, 2)),
    "images that were not measured": lambda saved: in_layer(saved, lowest_images=torch.full((3, 2), 12)),
    "fractions of images": lambda saved: in_layer(saved, lowest_images=torch.zeros(3, 2)),
    "not finite": lambda saved: in_layer(saved, sd=torch.full((2,), torch.nan)),
    "a tensor more": lambda saved: in_layer(saved, future=torch.zeros(2)),
    "a tensor less": lambda saved: (
        saved | {"units": {"conv": {k: v for k, v in saved["units"]["conv"].items() if k != "sd"}}}
    ),
    "about as a list": lambda saved: saved | {"about": [1]},
    "names as numbers": lambda saved: saved | {"about": saved["about"] | {"names": {0: 3}}},
    "files as numbers": lambda saved: saved | {"about": saved["about"] | {"skipped": [3]}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_with_anything_else_is_named(what: str, measured: UnitStatistics, tmp_path: Path) -> None:
    measured.save(tmp_path / "x.pt")
    torch.save(CHANGES[what](torch.load(tmp_path / "x.pt", weights_only=True)), tmp_path / "x.pt")
    with pytest.raises(
        InvalidInput, match=r"x\.pt holds no unit statistics \(.+\); give a file that UnitStatistics\.save"
    ):
        UnitStatistics.load(tmp_path / "x.pt")


def test_files_of_gates_are_none_of_units(tiny: fv.TappedModel, tmp_path: Path) -> None:
    fv.lab.GateStatistics.measure(tiny, torch.rand(4, 3, 24, 24)).save(tmp_path / "gates.pt")
    with pytest.raises(InvalidInput, match="holds no unit statistics"):
        UnitStatistics.load(tmp_path / "gates.pt")
    with pytest.raises(InvalidInput, match=r"cannot read .*none\.pt"):
        UnitStatistics.load(tmp_path / "none.pt")
