"""Ctrl-C in galleries and in the laboratory: what there is is written and said, and never used as whole."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.cli import main
from featureviz.errors import InvalidInput
from featureviz.gallery import gate_cards, render_specs
from featureviz.gallery.cards.entry import choose_gates, load_or_measure
from featureviz.lab import GateStatistics, modes
from featureviz.lab.effects import intervened_renders
from featureviz.lab.gates import mode_renders, reachability_study

Q = {"size": 16, "progress": False}


pytestmark = pytest.mark.usefixtures("control_c")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *at: int) -> None:
    """Ctrl-C in these steps, counted over all ascents."""
    step, done = fv.Ascent.step, list[int]()

    def counted(self: fv.Ascent) -> None:
        done.append(1)
        if len(done) in at:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(fv.Ascent, "step", counted)


@pytest.mark.parametrize(
    ("at", "steps"),
    [(1, [1, 1]), (7, [7, 7]), (20, [20, 20]), (21, [20, 20, 1]), (23, [20, 20, 3]), (40, [20, 20, 20])],
)
def test_an_interrupted_gallery_says_how_many_steps_each_picture_had(
    at: int, steps: list[int], tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt, match=rf"index\.html shows {len(steps)} of 3 pictures"):
        render_specs(tiny, ["conv:1", "conv:2", "se:1"], tmp_path, steps=20, **Q)
    report, page = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "index.html").read_text()
    assert report["interrupted"]
    assert report["planned"] == 3
    assert [unit["steps"] for unit in report["units"]] == steps
    assert [int(n) for n in re.findall(r">[^<>]*<br>(\d+) steps", page)] == steps
    assert f"Interrupted: {len(steps)} of 3 pictures" in page
    assert "by 20 steps" not in page


def test_the_command_says_it_and_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(monkeypatch, 3)
    what = ["render", "embedded", "features.3:1", "--steps", "9", "--size", "16"]
    assert main([*what, "--out", str(tmp_path)]) == 130
    shown = capsys.readouterr()
    assert f"featureviz: interrupted; {tmp_path / 'index.html'} shows 1 of 1 pictures" in shown.err
    assert shown.out == ""


def test_an_interrupted_demo_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(monkeypatch, 4)  # in the second of two blocks
    assert main(["demo", "--gates", "2", "--steps", "2", "--size", "32", "--out", str(tmp_path)]) == 130
    assert "shows the 1 of 2 gates that are done" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert (len(report["gates"]), report["planned"], report["interrupted"]) == (1, 2, True)
    assert "Interrupted: 1 of 2 gates are done." in (tmp_path / "index.html").read_text()


def test_a_demo_without_a_gate_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 1)
    assert main(["demo", "--gates", "2", "--steps", "2", "--size", "32", "--out", str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("best_of", [1, 3])
def test_each_unit_has_its_own_seed(best_of: int, tiny: fv.TappedModel, tmp_path: Path) -> None:
    specs = [f"conv:{i}" for i in range(6)]
    render_specs(tiny, specs, tmp_path, best_of=best_of, steps=3, batch=4, seed=5, **Q)
    report = json.loads((tmp_path / "report.json").read_text())
    seeds = [unit["seed"] for unit in report["units"]]
    assert (len(set(seeds)) == 1) == (best_of == 1)
    assert "seeds" not in report["recipe"]
    for unit in report["units"]:
        assert fv.read_recipe(tmp_path / unit["file"])["seed"] == unit["seed"]
        alone = fv.render(tiny, unit["spec"], seed=unit["seed"], image_ids=[0], steps=3, **Q)
        tile = fv.lab.read_picture(tmp_path / unit["file"])
        assert (tile - alone.images[0]).abs().max() <= 1.5 / 255


# ------------------------------------------------------------------------------------------------------ the laboratory
@pytest.fixture(scope="module")
def model() -> fv.TappedModel:
    return fv.load("embedded", size=48)


@pytest.fixture(scope="module")
def natural(model: fv.TappedModel) -> GateStatistics:
    return GateStatistics.measure(model, torch.rand(12, 3, 48, 48, generator=torch.Generator().manual_seed(0)))


SITE = "features.2.block.2"
USES: dict[str, tuple[Any, Callable[[fv.TappedModel, GateStatistics], object]]] = {
    "interventions": (
        intervened_renders,
        lambda model, natural: intervened_renders.render_under(
            model, fv.parse("features.3:1"), intervened_renders.gate_interventions(model, SITE), steps=1, size=16
        ),
    ),
    "modes": (
        mode_renders,
        lambda model, natural: mode_renders.render_modes(
            model, modes(natural, SITE, 1), natural, "x", steps=1, size=16
        ),
    ),
    "reachability": (
        reachability_study,
        lambda model, natural: reachability_study.ReachabilityStudy(
            model, fv.gates(model)[SITE], natural
        ).render_gates([1], steps=1, size=16),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:1 of 1 images:RuntimeWarning")  # gates that are clamped to 0 pass no gradient
@pytest.mark.parametrize("use", USES)
def test_the_laboratory_never_uses_an_interrupted_render(
    use: str, model: fv.TappedModel, natural: GateStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, work = USES[use]
    monkeypatch.setattr(mode_renders, "_find_pictures", lambda *_: ([["a", "b"]], [torch.rand(2, 3, 8, 8)]))
    work(model, natural)
    monkeypatch.setattr(module, "render", lambda *a, **k: replace(fv.render(*a, **k, progress=False), interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        work(model, natural)


def test_completed_is_itself_or_raises(tiny: fv.TappedModel, natural: GateStatistics) -> None:
    made = fv.render(tiny, "conv:1", steps=1, **Q)
    assert made.completed() is made
    assert natural.completed() is natural
    for whole in (made, natural):
        with pytest.raises(KeyboardInterrupt):
            replace(whole, interrupted=True).completed()


def test_statistics_of_an_interrupted_measurement_are_refused(
    model: fv.TappedModel, natural: GateStatistics, tmp_path: Path
) -> None:
    cut, images = replace(natural, interrupted=True), torch.rand(12, 3, 48, 48)
    cut.save(tmp_path / "cut.pt")
    for given in (cut, tmp_path / "cut.pt", str(tmp_path / "cut.pt")):
        with pytest.raises(InvalidInput, match="interrupted after 12 images; measure again"):
            gate_cards(model, images, tmp_path / "out", sites=[SITE], statistics=given, progress=False)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_measurement_is_not_saved(model: fv.TappedModel, tmp_path: Path) -> None:
    def pictures() -> Iterator[Tensor]:
        yield torch.rand(4, 3, 48, 48)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_measure(model, pictures(), tmp_path / "natural.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 9, 10, 1503, 1504])
def test_as_many_gates_are_chosen_as_were_asked_for(count: int) -> None:
    natural = fv.lab.natural_gates()
    chosen = choose_gates(list(natural.sites), natural, count)
    assert sum(map(len, chosen.values())) == count
    assert all(len(set(units)) == len(units) for units in chosen.values())


@pytest.mark.parametrize("count", [0, -1, 1505, 10**9, 10**30])
def test_more_gates_than_there_are_is_an_error(count: int) -> None:
    natural = fv.lab.natural_gates()
    with pytest.raises(InvalidInput, match=f"count={count} was given; expected 1 to 1504 gates"):
        choose_gates(list(natural.sites), natural, count)
