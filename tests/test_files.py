"""Files: names that no two texts share, folders that are tried, reading that never waits."""

import itertools
import os
from pathlib import Path

import pytest

from featureviz.errors import InvalidInput
from featureviz.files import check_writable, is_made_name, make_file_name, open_file, read_json, write_bytes

TEXTS = [
    "gate:d.a-b:1", "gate:d.a_b:1", "gate:d.a b:1", "gate:D.a-b:1", "gate:d.ä:1", "gate:d.ö:1", "gate:d.日本:1",
    "-gate:d.a-b:1", "minus gate:d.a-b:1", "x" * 200 + "1", "x" * 200 + "2", "", " ", ".", "..", "/", "a/b", "a\0b",
    "\udcff", "CON", "con.", "-",
]  # fmt: skip


def test_two_texts_never_share_a_name_whatever_the_file_system() -> None:
    names = [make_file_name(text) for text in TEXTS]
    for one, two in itertools.combinations(names, 2):
        assert one.casefold() != two.casefold()


@pytest.mark.parametrize("text", TEXTS)
def test_a_name_can_be_written_anywhere(text: str, tmp_path: Path) -> None:
    name = make_file_name(text)
    assert len(name) <= 100
    assert name.isascii()
    assert name[0] not in ".-"
    assert is_made_name(name)
    assert is_made_name(make_file_name(text, ".html"))
    write_bytes(tmp_path / name, b"1")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["", "a.png", "index.html", "report.json", "a-12345.png", "a-ABCDEF0123.png", "../a-0123456789.png"]
)
def test_names_of_others_are_not_ours(name: str) -> None:
    assert not is_made_name(name)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file", "file is a file"),
        ("file/inside/deep", "file is a file"),
        ("a" * 300, "name too long"),
        ("link", "File exists"),
        ("loop", "symbolic links|File exists"),
        ("a\0b", "null"),
        ("/proc/new", "No such file|denied|not permitted"),
        ("/dev/null", "Not a directory|File exists"),
    ],
)
def test_a_folder_that_cannot_be_written_to(place: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InvalidInput, match=rf"(?s)cannot write to .*{why}.*--out"):
        check_writable(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("place", ["", "new", "new/deep/deeper", "umlaut ä", os.fsdecode(b"\xff")])
def test_a_folder_that_can_leaves_no_trace_of_the_trial(place: str, tmp_path: Path) -> None:
    assert check_writable(tmp_path / place) == tmp_path / place
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [3, None, b"x", ["x"]])
def test_what_is_no_path(path: object) -> None:
    for use in (check_writable, open_file, read_json):
        with pytest.raises(InvalidInput, match="expected its path"):
            use(path)  # type: ignore[operator]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"3",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b"\x80abc",
        b'{"a": ' * 100_000,
        b"[" * 100_000,
        b'{"a": 1} 2',
    ],
)
def test_json_that_is_none_or_no_object(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"report\.json holds"):
        read_json(tmp_path / "report.json")


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p)]
)
def test_reading_never_waits(make: object, tmp_path: Path) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(InvalidInput, match="cannot read"):
        open_file(tmp_path / "x")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 250 + ".png")  # no longer name may be needed for the temporary file
    write_bytes(long, b"first")
    assert long.read_bytes() == b"first"
    for place in ("folder", "a\0b", "a" * 300, "file/inside"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidInput, match="cannot write"):
            write_bytes(tmp_path / place, b"data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", long.name]
