"""The Python blocks of the pages about images, galleries and Lucid run, and so do the cells of the notebook."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch

import featureviz as fv

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ["images.md", "galleries.md", "from-lucid.md"]


def make_quick(code: str) -> str:
    """The code with two units and two steps."""
    code = re.sub(r"units=\[.*?\]", "units=[3, 7]", code, flags=re.S)
    return re.sub(r"\bsteps=\d+|fast\(\d+\)", lambda found: re.sub(r"\d+", "2", found[0]), code)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": page}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    assert blocks
    for block in blocks:
        if page == "galleries.md":
            block = make_quick(block)
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_scripts_of_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    for picture in re.findall(r"\]\((\w+\.(?:png|jpg|webp|ipynb))\)", text):
        assert (DOCS / picture).is_file()
    for script in re.findall(r"python (scripts/\w+\.py)", text):
        assert (DOCS.parent / script).is_file()


def test_the_cells_of_the_notebook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Jupyter runs them: the value of a cell is that of its last line, if this is an expression."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((DOCS / "gallery.ipynb").read_text())
    names, values = {"__name__": "__main__"}, list[object]()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse(make_quick("".join(cell["source"])))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "a cell", "exec"), names)
            values += [] if last is None else [eval(compile(ast.Expression(last.value), "a cell", "eval"), names)]  # pyright: ignore
    assert [type(value).__name__ for value in values][-2:] == ["PosixPath", "PosixPath"]
    galleries = [value for value in values if isinstance(value, fv.gallery.Gallery)]
    assert [len(gallery.tiles()) for gallery in galleries] == [8, 2]
    assert (tmp_path / "notebook-gallery" / "timelapse.gif").is_file()


def test_the_notebook_is_executed_and_small() -> None:
    file = DOCS / "gallery.ipynb"
    assert file.stat().st_size < 300_000
    cells = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert sum("text/html" in output.get("data", {}) for output in outputs) == 2
