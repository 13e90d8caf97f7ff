"""Runs of the local engine: the same bytes whatever was there before, and what an end leaves."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import featureviz as fv
from benchmarks.studies.killed_gallery import paint
from featureviz.errors import InvalidInput
from featureviz.gallery import Gallery, Plan, estimate, plan, render_plan
from featureviz.gallery.engine import batch
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.planning.tile import hash_tile
from featureviz.gallery.store.writing import Store

Q: dict[str, Any] = {"steps": 2, "size": 16}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


def backwards(model: Any, batches: Any, options: Any) -> Iterator[Any]:
    yield from render_here(model, batches[::-1], options)


def render(made: Plan, model: fv.TappedModel, folder: Path, **options: Any) -> Gallery:
    return render_plan(made, model, folder, progress=False, **options)


# --------------------------------------------------------------------------------------------------------- same bytes
class Kernel(nn.Module):
    """A convolution, a linear layer, and gates: what rounds in another way for one image than for several."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, kernel, padding=kernel // 2), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


# The size of a batch: alone, evenly, and with one left over.
@pytest.mark.parametrize(
    ("kernel", "size", "recipe"),
    [(1, 1, "clear"), (3, 1, "clear"), (3, 2, "fast"), (3, 3, "clear"), (5, 3, "plain"), (1, 3, "maco")],
)
def test_the_bytes_depend_on_the_plan_alone(kernel: int, size: int, recipe: str, tmp_path: Path) -> None:
    model = fv.wrap(Kernel(kernel), size=20)
    made = plan(model, layers=["conv", "head"], units=range(2), batch=size, recipe=recipe, steps=2, size=20)
    whole = render(made, model, tmp_path / "whole")
    render(made, model, tmp_path / "backwards", engine=backwards)
    assert contents(tmp_path / "backwards") == contents(tmp_path / "whole")
    render(made, model, tmp_path / "parts")
    for tile in made.tiles[::3]:
        (tmp_path / "parts" / tile.file).unlink()
    again = render(Plan.read(tmp_path / "parts" / "plan.json"), model, tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert [(t.tile, t.figures, t.trace) for t in again.tiles()] == [
        (t.tile, t.figures, t.trace) for t in whole.tiles()
    ]
    assert len(contents(tmp_path / "whole")) == len(made) == 8


def test_a_tile_is_what_render_gives(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], gates=["se"], units=[1, 2], variants=2, seed=5, **Q)
    gallery = render(made, tiny, tmp_path)
    for stored in gallery.tiles():
        tile, path = stored.tile, tmp_path / stored.tile.file
        recipe = fv.read_recipe(path)
        assert (recipe["spec"], recipe["image_ids"], recipe["seed"]) == (tile.spec, [tile.variant], 5)
        alone = fv.render(tiny, tile.spec, image_ids=[tile.variant], seed=5, progress=False, **(fv.clear(2) | Q))
        assert (fv.lab.read_picture(path) - alone.images[0]).abs().max() <= 1.5 / 255
        np.testing.assert_allclose(stored.trace, alone.scores[:, 0], rtol=1e-4, atol=1e-6)
        assert stored.figures["score"] == pytest.approx(float(alone.held_out.scores.mean()), rel=1e-3, abs=1e-6)
        assert stored.figures["moved"]
        assert ("gate" in stored.figures) == (tile.kind == "gate")


@pytest.mark.parametrize(
    "options", [{"runtime": fv.Runtime(precision="bfloat16")}, {"image": fv.PixelImage}, {"views": 2}]
)
def test_options_reach_the_render(options: dict[str, Any], tiny: fv.TappedModel, tmp_path: Path) -> None:
    plain = render(plan(tiny, layers=["conv"], units=[1], **Q), tiny, tmp_path / "plain")
    other = render(plan(tiny, layers=["conv"], units=[1], **Q, **options), tiny, tmp_path / "other")
    assert plain.plan.tiles[0].key != other.plan.tiles[0].key
    pictures = [fv.lab.read_picture(g.folder / g.plan.tiles[0].file) for g in (plain, other)]
    assert (pictures[0] - pictures[1]).abs().max() > 0


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), ["cpu", "cpu"]])
def test_devices_give_the_same_pictures(device: Any, tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], units=range(3), **Q)
    render(made, tiny, tmp_path / "one")
    render(made, tiny, tmp_path / "other", device=device)
    for name in contents(tmp_path / "one"):
        one, other = (fv.lab.read_picture(tmp_path / folder / name) for folder in ("one", "other"))
        assert (one - other).abs().max() <= 1.5 / 255


@pytest.mark.parametrize("device", ["cuda:99", "cuda:all", "nothing", [], 3.5])
def test_a_device_that_is_not_here_is_told(device: Any, tiny: fv.TappedModel, tmp_path: Path) -> None:
    if device == "cuda:all" and torch.cuda.is_available():
        pytest.skip("there are CUDA devices")
    made = plan(tiny, layers=["conv"], units=[1], **Q)
    with pytest.raises(InvalidInput, match=r"device.*has 0 of 2 tiles; the same command goes on"):
        render(made, tiny, tmp_path, device=device)


# ---------------------------------------------------------------------------------------------------------- the ends
@pytest.mark.parametrize("when", ["within a batch", "between batches", "before a row", "within a row"])
def test_control_c_keeps_all_finished_batches(
    when: str, tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control_c: None
) -> None:
    made, calls = plan(tiny, layers=["conv"], units=range(3), batch=2, **Q), list[int]()
    owner, name, at, done = {
        "within a batch": (fv.Ascent, "step", 4, 2), "between batches": (Store, "add", 2, 4),
        "before a row": (Store, "insert", 3, 4), "within a row": (batch, "encode_png", 4, 2),
    }[when]  # fmt: skip
    original = getattr(owner, name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(
        KeyboardInterrupt, match=re.escape(f"{tmp_path} has {done} of 6 tiles; the same command goes on")
    ):
        render(made, tiny, tmp_path)
    monkeypatch.undo()
    assert len(Gallery.open(tmp_path).tiles()) == done
    begun = list[Any]()

    def noted(model: Any, batches: Any, options: Any) -> Iterator[Any]:
        begun.extend(batches)
        yield from render_here(model, batches, options)

    render(made, tiny, tmp_path, engine=noted)
    assert len(begun) == (6 - done) // 2
    render(made, tiny, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith("whole")} == whole


def test_runs_that_are_killed_go_on() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.studies.killed_gallery", "--quick"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.split() for line in run.stdout.splitlines()[1:5]]
    assert [(row[0], int(row[1])) for row in rows] == [("rendered", 2), ("written", 2), ("Ctrl-C", 2), ("points", 8)]


class Breaks(nn.Module):
    """Unit 1 is NaN, unit 2 is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        with torch.no_grad():
            self.conv.weight[2], self.conv.bias[2] = 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.cat([y[:, :1], y[:, 1:2] + float("nan"), y[:, 2:]], 1)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_or_dead_is_told_in_its_figures(tmp_path: Path) -> None:
    model = fv.wrap(nn.Sequential(Breaks()), size=16)
    made = plan(model, layers=["0"], signs=(1,), **Q)
    tiles = render(made, model, tmp_path).tiles()
    assert [("error" in t.figures, t.figures["moved"]) for t in tiles] == [
        (False, True), (True, True), (False, False), (False, True),
    ]  # fmt: skip
    assert "step 0" in tiles[1].figures["error"]
    assert [len(t.trace) for t in tiles] == [2, 0, 2, 2]
    assert tiles[1].figures["score"] is None
    before = contents(tmp_path)
    (tmp_path / made.tiles[0].file).unlink()
    render(made, model, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_full_memory_is_told_with_the_remedy(
    error: Exception, tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(batch, "render", full)
    with pytest.raises(
        InvalidInput, match=r"memory is full with 4 tiles of 'conv' at once; give a smaller batch \(--batch\)"
    ):
        render(plan(tiny, layers=["conv"], units=range(2), **Q), tiny, tmp_path)


def test_an_error_of_the_network_is_not_hidden(
    tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(batch, "render", wrong)
    with pytest.raises(RuntimeError, match="something else"):
        render(plan(tiny, layers=["conv"], units=[1], **Q), tiny, tmp_path)


def test_an_engine_that_leaves_tiles_out_is_told(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], units=range(3), batch=2, **Q)
    with pytest.raises(InvalidInput, match="the engine ended without 2 of the tiles"):
        render(made, tiny, tmp_path, engine=lambda model, batches, options: paint(model, batches[1:], options))
    assert len(render(made, tiny, tmp_path, engine=paint).tiles()) == 6


# -------------------------------------------------------------------------------------------------------- wrong plans
def test_a_plan_of_another_network_is_told(tiny: fv.TappedModel, net: nn.Module, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], units=[1], **Q)
    with torch.no_grad():
        net.get_parameter("conv.weight")[0, 0, 0, 0] += 1
    other = fv.wrap(net, mean=0.5, std=0.25, size=24)
    for model in (other, fv.load("embedded")):
        with pytest.raises(InvalidInput, match="the plan is of another network"):
            render(made, model, tmp_path / "out")
    with fv.clamp(tiny, "se", 1.0), pytest.raises(InvalidInput, match="or interventions"):
        render(made, tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists()


CHANGES = {
    "recipe": lambda text: text["recipe"].update(steps=3),
    "given": lambda text: text["recipe"]["given"].update(steps=3),
    "spec": lambda text: text["tiles"][0].update(spec="conv:2"),
    "variant": lambda text: text["tiles"][0].update(variant=1),
    "seed": lambda text: text["recipe"].update(seed=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_that_was_changed_by_hand_is_told(change: str, tiny: fv.TappedModel, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan(tiny, layers=["conv"], units=[1], signs=(1,), **Q).write(path)
    text = json.loads(path.read_text())
    CHANGES[change](text)
    path.write_text(json.dumps(text))
    with pytest.raises(InvalidInput, match=r"not what its options mean|does not fit the recipe"):
        render(Plan.read(path), tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arguments_are_checked(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], units=[1], **Q)
    for bad in ({"progress": 1}, {"out": 3}):
        with pytest.raises(InvalidInput):
            render_plan(**({"plan": made, "model": tiny, "out": tmp_path} | bad))
    for plan_, model in ((3, tiny), (made, 3)):
        with pytest.raises(InvalidInput):
            render_plan(plan_, model, tmp_path)  # pyright: ignore[reportArgumentType]


# -------------------------------------------------------------------------------------------------------- estimates
@pytest.mark.parametrize(("units", "steps", "size"), [(1, 0, 16), (1, 1, 1), (2, 3, 3), (8, 2, 2)])
def test_an_estimate_of_a_tiny_plan(units: int, steps: int, size: int, tiny: fv.TappedModel) -> None:
    made = plan(tiny, layers=["conv"], units=range(units), batch=size, steps=steps, size=16)
    found = estimate(made, tiny)
    assert found.tiles == len(made)
    assert 0 < found.seconds < 600
    assert 100 * len(made) < found.bytes < 10_000 * len(made)
    assert str(found).startswith(f"{len(made)} tiles, about ")


def test_keys_have_no_hidden_part() -> None:
    assert hash_tile("a", {"b": 1, "c": 2}, "s", 0) == hash_tile("a", {"c": 2, "b": 1}, "s", 0)
