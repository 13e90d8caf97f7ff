"""The Python blocks of the pages about images and about Lucid run."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["images.md", "from-lucid.md"])
def test_the_examples_of_a_page_run(page: str) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": page}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", ["images.md", "from-lucid.md"])
def test_pictures_and_scripts_of_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    for picture in re.findall(r"\]\((\w+\.(?:png|jpg))\)", text):
        assert (DOCS / picture).is_file()
    for script in re.findall(r"python (scripts/\w+\.py)", text):
        assert (DOCS.parent / script).is_file()
