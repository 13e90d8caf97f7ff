"""The two pages: every spec on them is read and renders, and the zoo's page has every entry and no other."""

import json
import re
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("name", OURS)
def test_every_example_renders(name: str, embedded: fv.TappedModel, tmp_path: Path) -> None:
    photo = DOCS / "zoo" / "photo.png"
    text = ENTRIES[name].example.replace('"photo.png"', json.dumps(str(photo)))
    goal = fv.parse(text)
    assert repr(fv.parse(repr(goal))) == repr(goal)
    made = fv.render(embedded, goal, size=96, steps=2, progress=False)
    assert made.images.isfinite().all()
    assert len(made.held_out.scores) == 16
    if ENTRIES[name].beside:
        assert fv.parse(ENTRIES[name].beside).layers


def test_the_help_names_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "docs/objectives.md" in capsys.readouterr().out
