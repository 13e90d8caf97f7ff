"""Every Python block of the README runs, in order, in one namespace; its commands exist."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "readme"}
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "channel.png").is_file()
    assert float(names["opened"]) > float(names["closed"]) + 0.5  # pyright: ignore[reportArgumentType]
    assert names["both"].images.shape == (1, 3, 96, 160)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(names["eight"]) == 8  # pyright: ignore[reportArgumentType]


def test_the_commands_exist() -> None:
    from featureviz.cli import _parser, shielded

    commands = re.findall(r"^featureviz (.*?)(?:\s+#.*)?$", README.read_text(), re.M)
    assert len(commands) == 3
    import shlex

    for command in commands:
        _parser().parse_args(shielded(shlex.split(command)))


def test_the_tables_are_what_was_measured() -> None:
    from benchmarks.readme import filled

    assert filled(README.read_text()) == README.read_text()


def test_the_pictures_are_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()):
        assert (README.parent / path).is_file()
