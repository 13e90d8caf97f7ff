"""Every Python block of the README runs, in order, in one namespace; its commands exist."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
LABORATORY = README.parent / "docs" / "laboratory.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "readme"}
    assert len(BLOCKS) == 7
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "channel.png").is_file()
    assert float(names["opened"]) > float(names["closed"]) + 0.5  # pyright: ignore[reportArgumentType]
    assert names["both"].images.shape == (1, 3, 96, 160)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(names["eight"]) == 8  # pyright: ignore[reportArgumentType]


def test_the_laboratory_s_examples_run() -> None:
    names: dict[str, object] = {"__name__": "laboratory"}
    for block in re.findall(r"```python\n(.*?)```", LABORATORY.read_text(), re.S):
        exec(compile(block, str(LABORATORY), "exec"), names)
    assert names["always_open"].recipe["interventions"] == ["clamp features.9.block.2 1"]  # pyright: ignore


def test_the_scripts_exist() -> None:
    for text in (README.read_text(), LABORATORY.read_text()):
        for script in re.findall(r"python\s+(scripts/\w+\.py)", text):
            assert (README.parent / script).is_file()
        for benchmark in re.findall(r"python -m benchmarks\.([\w.]+)", text):
            assert (README.parent / "benchmarks" / f"{benchmark.replace('.', '/')}.py").is_file()


def test_the_commands_exist() -> None:
    from featureviz.cli.command import make_parser
    from featureviz.options import protect_specs

    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README.read_text(), re.S))
    commands = re.findall(r"^featureviz (.*?)(?:\s+#.*)?$", blocks, re.M)
    assert len(commands) == 10
    import shlex

    for command in commands:
        make_parser().parse_args(protect_specs(shlex.split(command)))


def test_the_tables_are_what_was_measured() -> None:
    from benchmarks.report.pages import PAGES, fill_tables

    for page in PAGES:
        assert fill_tables(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/laboratory.md"])
def test_the_pictures_are_there(page: str) -> None:
    file = README.parent / page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", file.read_text())
    assert pictures
    for path in pictures:
        assert (file.parent / path).is_file()
