"""The two pages: every spec on them is read and renders, and the zoo's page has every entry and no other."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.cli import main

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = fv.zoo.installed()
OURS = [name for name, entry in ENTRIES.items() if entry.source.startswith("objectives_zoo")]


def table_specs() -> list[str]:
    """What stands in the first column of the tables of the page of objectives."""
    found = list[str]()
    for line in (DOCS / "objectives.md").read_text().splitlines():
        if line.startswith("| `"):
            found += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return found


@pytest.mark.parametrize("spec", table_specs())
def test_every_spec_of_the_page_reads_back(spec: str) -> None:
    goal = fv.parse(spec)
    assert repr(fv.parse(repr(goal))) == repr(goal)


def test_the_page_of_objectives_runs() -> None:
    torch.manual_seed(0)
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / "objectives.md").read_text(), re.S))
    names: dict[str, object] = {}
    exec(code, names)
    assert len(names["picture"].images) == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_of_the_zoo_has_every_entry() -> None:
    page = (DOCS / "zoo.md").read_text()
    assert sorted(re.findall(r"^### (\w+)$", page, re.M)) == sorted(OURS)
    for name in OURS:
        entry = ENTRIES[name]
        assert f"`{entry.signature}`" in page
        assert entry.example in page.replace("'\\''", "'")
        assert (DOCS / "zoo" / f"{name}.png").is_file()


def example(name: str) -> fv.Objective:
    return fv.parse(ENTRIES[name].example.replace('"photo.png"', json.dumps(str(DOCS / "zoo" / "photo.png"))))


@pytest.fixture(scope="module")
def images() -> dict[str, tuple[Tensor, Tensor]]:
    """Images and held-out scores of the examples, by name; those of one image share a render, which is quicker."""
    model, options = fv.load("embedded", size=48), {"size": 48, "steps": 2, "progress": False}
    goals = {name: example(name) for name in OURS}
    own = [name for name, goal in goals.items() if goal.n > 1 or goal.across_batch or ".alpha" in goal.layers]
    image = {name: fv.AlphaImage if ".alpha" in goals[name].layers else None for name in own}
    made = {name: fv.render(model, goals[name], image=image[name], **options) for name in own}
    batch = [name for name in OURS if name not in own]
    all_of_them = fv.render(model, [goals[name] for name in batch], **options)
    shown = {name: (own.images, own.held_out.scores) for name, own in made.items()}
    rows = zip(all_of_them.images, all_of_them.held_out.scores.T, strict=True)
    return shown | dict(zip(batch, rows, strict=True))


@pytest.mark.parametrize("name", OURS)
def test_every_example_renders(name: str, images: dict[str, tuple[Tensor, Tensor]]) -> None:
    goal, (made, scores) = example(name), images[name]
    assert repr(fv.parse(repr(goal))) == repr(goal)
    assert made.isfinite().all()
    assert made.std() > 0
    assert len(scores) == 16
    assert scores.isfinite().all()
    if ENTRIES[name].beside:
        assert fv.parse(ENTRIES[name].beside).layers


def test_the_help_names_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "docs/objectives.md" in capsys.readouterr().out
