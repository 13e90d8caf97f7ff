"""Files of gate statistics: whatever else is in them, the error names the file."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.lab import GateStatistics

Saved = dict[str, Any]


@pytest.fixture
def saved(tiny: fv.TappedModel, tmp_path: Path) -> Saved:
    GateStatistics.measure(tiny, torch.rand(8, 3, 24, 24)).save(tmp_path / "good.pt")
    return torch.load(tmp_path / "good.pt", weights_only=True)


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def in_block(saved: Saved, change: Callable[[Saved], Saved]) -> Saved:
    return saved | {"sites": {"se": change(saved["sites"]["se"])}}


CHANGES: dict[str, Callable[[Saved], Any]] = {
    "a list": lambda saved: [1, 2],
    "nothing": lambda saved: {},
    "weights": lambda saved: {"conv.weight": torch.zeros(2)},
    "no levels": lambda saved: {k: v for k, v in saved.items() if k != "levels"},
    "other levels": lambda saved: saved | {"levels": [0.0, 1.0]},
    "no count": lambda saved: saved | {"count": "many"},
    "sites as a list": lambda saved: saved | {"sites": [1]},
    "a block as a tensor": lambda saved: saved | {"sites": {"se": torch.zeros(3)}},
    "a number for a tensor": lambda saved: in_block(saved, lambda block: block | {"logit_mean": 3}),
    "a tensor missing": lambda saved: in_block(
        saved, lambda block: {k: v for k, v in block.items() if k != "quantiles"}
    ),
    "another shape": lambda saved: in_block(saved, lambda block: block | {"quantiles": torch.zeros(3, 8)}),
    "other channels": lambda saved: in_block(saved, lambda block: block | {"logit_mean": torch.zeros(5)}),
    "more about it": lambda saved: saved | {"about": {"future": 3}},
    "about as a list": lambda saved: saved | {"about": [1]},
    "files as numbers": lambda saved: saved | {"about": {"skipped": [3]}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_with_anything_else_is_named(what: str, saved: Saved, tmp_path: Path) -> None:
    torch.save(CHANGES[what](saved), tmp_path / "x.pt")
    with pytest.raises(InvalidInput, match=r"x\.pt holds no gate statistics \(.+\); give a file that GateStatistics"):
        GateStatistics.load(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore")  # of torch, about old formats
@pytest.mark.parametrize("what", ["empty", "text", "JSON", "half", "code", "not UTF-8"])
def test_a_broken_file_is_named_and_never_run(what: str, saved: Saved, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    data = {
        "empty": b"", "text": b"hello", "JSON": b'{"count": 3}', "half": whole[: len(whole) // 2],
        "code": pickle.dumps(Harmful(tmp_path / "mark"), protocol=2), "not UTF-8": b"\xff\xfe\x80" * 9,
    }  # fmt: skip
    (tmp_path / "x.pt").write_bytes(data[what])
    with pytest.raises(InvalidInput, match=r"x\.pt holds no gate statistics"):
        GateStatistics.load(tmp_path / "x.pt")
    assert not (tmp_path / "mark").exists()


NO_FILES = [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p), str]


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "x.pt")
    with pytest.raises(InvalidInput, match=r"cannot read .*x\.pt"):
        GateStatistics.load(tmp_path / "x.pt")
