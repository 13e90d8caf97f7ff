"""What holds for each file of the zoo: public names only, one idea, and a docstring that tells what a reader needs."""

import ast
import inspect
from collections import Counter
from pathlib import Path

import pytest

import featureviz as fv
import objectives_zoo as zoo

FOLDER = Path(zoo.__file__ or "").parent
FILES = sorted(FOLDER.rglob("*.py"))
ENTRIES = {n: entry for n, entry in fv.zoo.installed().items() if entry.source.startswith("objectives_zoo")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_is_short_and_imports_public_names_only(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featureviz"):
            assert node.module == "featureviz"
            assert {n.name for n in node.names} <= set(fv.__all__)


def test_folders_are_small() -> None:
    counts = Counter(path.parent for path in FILES)
    assert max(counts.values()) <= 9


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_tells_its_source_its_weight_and_what_it_means_on_each_layout(name: str) -> None:
    text = " ".join((inspect.getdoc(ENTRIES[name].make) or "").split())
    for word in ("``", "Source:", "eight", "oken" if "gate" not in ENTRIES[name].source else "logit for each"):
        assert word in text, word
    assert f"{name}(" in ENTRIES[name].example
    assert ENTRIES[name].summary.endswith(".")
