"""Options that the command and the scripts share: units as specs write them."""

import argparse

import pytest

from featureviz import options


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prog")
    options.add_units_option(parser, "units")
    parser.add_argument("--out")
    return parser


@pytest.mark.parametrize(
    ("arguments", "units"),
    [
        ([], None),
        (["--units", "3"], [3]),
        (["--units", "3", "14", "--out", "out"], [3, 14]),
        (["--units", "0:4"], [0, 1, 2, 3]),
        (["--units", "[0:8:2]"], [0, 2, 4, 6]),
        (["--units", "[0:3, 7]", "9,8", ":2"], [0, 1, 2, 7, 9, 8, 0, 1]),
        (["--units", "2-4"], [2, 3, 4]),
        (["--units", "007"], [7]),
    ],
)
def test_units_are_written_as_in_specs(arguments: list[str], units: list[int] | None) -> None:
    assert options.read_units(make_parser().parse_args(arguments)) == units


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "expected an index, 17, or a range, 0:8"),
        ("", "expected an index"),
        ("1.5", "expected an index"),
        ("7:", "expected the end of the range"),
        ("7:3", "holds no unit"),
        ("7-3", "holds no unit"),
        ("0:8:0", "holds no unit"),
        ("0:1000000000000", "expected an index from 0 to"),
        ("0:1000000000", "at most 65,536"),
        ("0-999999999", "at most 65,536"),
        ("9" * 5000, "expected an index from 0"),
        ("[0:3", "expected ']'"),
        ("0:3]", "expected the end"),
        ("[0:3] 4", "expected the end"),
    ],
)
def test_units_that_are_none_are_an_error_of_use(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(["--units", text])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
