"""Photographs of a gallery: a measurement that was cut off is made again."""

from pathlib import Path

import pytest
import torch

import featureviz as fv
from featureviz.gallery import Gallery, plan
from featureviz.gallery.store import photographs


def test_a_measurement_that_was_cut_off_is_never_taken_for_a_whole_one(
    tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = plan(tiny, layers=["conv"], units=[1, 2], steps=1), tmp_path / "out"
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        for i in range(4):
            fv.lab.save_picture(torch.rand(3, 24, 24), folder / f"{folder.name}{i}.png")

    def names() -> set[str]:
        found = Gallery.open(out).examples(made.groups[0])
        return {example.photograph.name for examples in found.values() for example in examples}

    def measure(folder: Path) -> None:
        photographs.measure_photographs(made, tiny, folder, out, progress=False)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    measure(folders[0])
    first = names()
    assert first
    assert all(name.startswith("a") for name in first)
    monkeypatch.setattr(photographs, "_keep_units", cut)
    with pytest.raises(KeyboardInterrupt):
        measure(folders[1])
    monkeypatch.undo()
    measure(folders[0])  # what was there before the cut is measured again, and not taken as being there still
    assert names() == first
