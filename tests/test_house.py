"""The limits that keep the package readable: of folders, files, functions and parameters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import featureviz

PACKAGE = Path(featureviz.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
EXCEPTIONS = {"render"}  # its options are what a user may set; each is one idea


def functions(file: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def count_lines(function: ast.FunctionDef) -> int:
    """Lines of code: signature and body without the docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    signature = function.body[0].lineno - function.lineno
    return signature + (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_no_folder_has_more_than_nine_files() -> None:
    folders = {file.parent for file in FILES}
    counts = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert {str(folder): n for folder, n in counts.items() if n > 9} == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_and_functions_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300
    for function in functions(file):
        names = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        parameters = [a for a in names if a.arg not in ("self", "cls")]
        assert len(parameters) <= 12 or function.name in EXCEPTIONS, function.name
        assert count_lines(function) <= 40 or function.name in EXCEPTIONS, function.name


def test_no_module_has_the_name_of_a_public_function() -> None:
    public = {name for name in featureviz.__all__ if name[0].islower()} - {"checks", "lab", "nn", "transform"}
    own = [file for file in FILES if "compat" not in file.parts]  # which has the names of another tool
    assert public.isdisjoint(file.stem for file in own)
