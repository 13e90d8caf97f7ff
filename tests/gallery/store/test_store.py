"""The folder of a gallery: whatever happened to it is found, and told with a remedy or rendered again."""

import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import featureviz as fv
from benchmarks.studies.killed_gallery import paint
from featureviz.errors import InvalidInput
from featureviz.gallery import Gallery, Plan, plan, render_plan
from featureviz.gallery.store import index
from featureviz.gallery.store.lock import LOCK
from featureviz.gallery.store.writing import Store

COUNT = 8


@pytest.fixture
def made(tiny: fv.TappedModel) -> Plan:
    return plan(tiny, layers=["conv"], units=range(COUNT // 2), steps=2, batch=2)


@pytest.fixture
def fill(made: Plan, tiny: fv.TappedModel) -> Callable[..., Gallery]:
    """Complete a folder with painted tiles; ``.painted`` counts those that had to be painted."""

    def run(folder: Path, wanted: Plan = made) -> Gallery:
        run.painted = 0

        def counting(*args: Any) -> Iterator[Any]:
            for batch in paint(*args):
                run.painted += len(batch)
                yield batch

        return render_plan(wanted, tiny, folder, engine=counting, progress=False)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


def first_file(folder: Path, made: Plan) -> Path:
    return folder / made.tiles[0].file


# ---------------------------------------------------------------------------------------------------------- the tiles
def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_link(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere.png")  # a link to the very same bytes, which may go away
    path.symlink_to("../../elsewhere.png")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": change_byte,
    "cut": lambda path: os.truncate(path, 50),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    "link": replace_by_link,
    "pipe": replace_by_pipe,
    "folder of a layer removed": lambda path: shutil.rmtree(path.parent),
    "all removed": lambda path: shutil.rmtree(path.parents[1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tile_is_rendered_again(damage: str, fill: Any, made: Plan, tmp_path: Path) -> None:
    fill(tmp_path)
    before, path = contents(tmp_path), first_file(tmp_path, made)
    DAMAGES[damage](path)
    fill(tmp_path)
    assert fill.painted == (COUNT if "removed" in damage and damage != "removed" else made.batch)
    assert path.is_file()
    assert not path.is_symlink()
    assert {name: data for name, data in contents(tmp_path).items() if name != "elsewhere.png"} == before
    fill(tmp_path)
    assert fill.painted == 0


def test_a_folder_in_the_place_of_a_tile_is_told_before_any_work(fill: Any, made: Plan, tmp_path: Path) -> None:
    path = first_file(tmp_path, made)
    path.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"\.png is a folder; remove it"):
        fill(tmp_path)
    assert fill.painted == 0


@pytest.mark.parametrize(("column", "value"), [("figures", '{"score": 7}'), ("trace", b"1234"), ("sha256", "0")])
def test_a_changed_row_is_found(column: str, value: str | bytes, fill: Any, made: Plan, tmp_path: Path) -> None:
    before = fill(tmp_path).tiles()
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection, connection:
        connection.execute(f"UPDATE tiles SET {column} = ? WHERE key = ?", [value, made.tiles[3].key])
    after = fill(tmp_path).tiles()
    assert fill.painted == made.batch
    assert [(t.tile, t.figures, t.trace) for t in after] == [(t.tile, t.figures, t.trace) for t in before]


# ------------------------------------------------------------------------------------------------ the index, the plan
def write_foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE tiles (key TEXT)")


def set_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 2")


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN_INDEX: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("hello" * 999), "remove it"),
    "cut": (lambda path: os.truncate(path, 5000), "remove it"),
    "page": (damage_page, "remove it"),
    "foreign": (write_foreign, "no index of a gallery; remove it, or give another folder"),
    "version": (set_version, "version 2; this featureviz has version 1: remove it"),
    "folder": (replace_by_folder, "not a regular file; remove it"),
    "pipe": (replace_by_pipe, "not a regular file; remove it"),
}


@pytest.mark.parametrize("damage", BROKEN_INDEX)
def test_a_broken_index_is_told_and_its_remedy_works(damage: str, fill: Any, tmp_path: Path) -> None:
    fill(tmp_path)
    path, before = tmp_path / "index.sqlite", contents(tmp_path)
    breaking, message = BROKEN_INDEX[damage]
    breaking(path)
    with pytest.raises(InvalidInput, match=message):
        fill(tmp_path)
    assert fill.painted == 0
    if damage not in ("cut", "page"):  # of which a reader may not read the broken part
        with pytest.raises(InvalidInput, match=message):
            Gallery.open(tmp_path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InvalidInput, match="missing; the same command as before makes it again"):
        Gallery.open(tmp_path)
    assert len(fill(tmp_path).tiles()) == COUNT
    assert contents(tmp_path) == before


def test_every_changed_byte_of_an_index_is_found_or_harmless(fill: Any, tmp_path: Path) -> None:
    """What can be read is right, or the run says that the index is damaged, or renders again."""
    whole = [(t.tile, t.figures, t.trace) for t in fill(tmp_path).tiles()]
    path = tmp_path / "index.sqlite"
    data = path.read_bytes()
    used, found = [place for place, byte in enumerate(data) if byte], 0
    for place in used[:: len(used) // 40]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        refused = None
        try:
            there = fill(tmp_path)
            assert [(t.tile, t.figures, t.trace) for t in there.tiles()] == whole
        except InvalidInput as error:
            refused = str(error)
        assert refused is None or "remove it" in refused
        found += refused is not None or fill.painted > 0
    assert found > 20


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[]", '{"featureviz gallery": 2}', "\0", '{"a":' * 9999])
def test_a_broken_plan_is_told_and_its_remedy_works(text: str, fill: Any, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"remove .*plan\.json: the tiles are kept"):
        fill(tmp_path)
    assert (tmp_path / "plan.json").read_text() == text
    (tmp_path / "plan.json").unlink()
    fill(tmp_path)
    assert fill.painted == 0


def test_a_plan_of_something_else_is_never_replaced(fill: Any, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"terraform_version": "1.0"}')
    with pytest.raises(InvalidInput, match="Give another folder"):
        fill(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock.sqlite", "plan.json"]


def test_another_gallery_is_never_replaced(fill: Any, tiny: fv.TappedModel, tmp_path: Path) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    options: dict[str, Any] = {"layers": ["conv"], "steps": 2, "batch": 2}
    for other, message in (
        (plan(tiny, units=range(3), **options), "2 of 8 tiles are not in this plan .it has other layers, units"),
        (plan(tiny, units=range(4), **(options | {"steps": 3})), "steps was 2 and is 3"),
    ):
        with pytest.raises(InvalidInput, match=message):
            fill(tmp_path, other)
    assert contents(tmp_path) == before
    larger = plan(tiny, units=range(6), **options)
    assert len(fill(tmp_path, larger).tiles()) == 12
    assert fill.painted == 4
    assert before.items() <= contents(tmp_path).items()


def test_leftovers_of_killed_runs_are_removed(fill: Any, made: Plan, tmp_path: Path) -> None:
    folder = first_file(tmp_path, made).parent
    folder.mkdir(parents=True)
    for place in (tmp_path, folder):
        (place / ".featureviz-abcd_123").write_text("half")
        (place / ".featureviz-of-somebody").write_text("kept")
    fill(tmp_path)
    assert [p.name for p in tmp_path.rglob(".featureviz-*")] == [".featureviz-of-somebody"] * 2


# ------------------------------------------------------------------------------------------------- several processes
def test_a_second_run_is_told_at_once_and_readers_are_not_blocked(fill: Any, made: Plan, tmp_path: Path) -> None:
    with Store.hold(tmp_path, made) as store:
        with pytest.raises(InvalidInput, match=r"another run writes to .*; wait for its end, or give another folder"):
            fill(tmp_path)
        other = f"import sqlite3; sqlite3.connect({str(tmp_path / LOCK)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
        run = subprocess.run([sys.executable, "-c", other], check=False, capture_output=True, text=True)
        assert "database is locked" in run.stderr  # another process gets no lock either
        assert Gallery.open(tmp_path).tiles() == []
        store.add(next(paint(None, made.batches(), {})))  # pyright: ignore[reportArgumentType]
        assert len(Gallery.open(tmp_path).tiles()) == 2
    assert len(fill(tmp_path).tiles()) == COUNT


@pytest.mark.parametrize("content", ["text", "folder", "pipe"])
def test_a_lock_that_cannot_be_one_is_told(content: str, fill: Any, tmp_path: Path) -> None:
    lock = tmp_path / ".lock.sqlite"
    {"text": lambda: lock.write_text("x" * 4096), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}[content]()
    with pytest.raises(InvalidInput, match=r"remove \.lock\.sqlite there"):
        fill(tmp_path)


def test_readers_never_fail_while_a_run_writes(fill: Any, tmp_path: Path) -> None:
    fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    stop, failed = threading.Event(), list[Exception]()

    def read() -> None:
        while not stop.is_set():
            try:
                assert len(Gallery.open(tmp_path).tiles()) == COUNT
            except Exception as error:
                failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    fill(tmp_path)
    stop.set()
    reader.join()
    assert failed == []
    assert fill.painted == COUNT


def die_within_a_commit(folder: Path) -> None:
    """Leave the index as a process does that was killed when a part of a commit was written."""
    code = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")
connection.execute("DELETE FROM tiles")
connection.executemany("INSERT INTO about VALUES (?, ?)", [(str(i), "x" * 999) for i in range(2000)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(folder / "index.sqlite")], check=False)
    assert (folder / "index.sqlite-journal").stat().st_size > 0


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere; then be nobody."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.chmod(folder, 0o755)


@pytest.mark.parametrize("died", [False, True])
def test_a_read_only_folder_is_read(died: bool, fill: Any, public_folder: Path) -> None:
    before = fill(public_folder).tiles()
    if died:
        die_within_a_commit(public_folder)
    os.chmod(public_folder, 0o555)
    for path in public_folder.glob("*"):
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    data = (public_folder / "index.sqlite").read_bytes()
    with unprivileged():
        gallery = Gallery.open(public_folder)
        assert gallery.tiles() == before
        assert gallery.tiles(gallery.plan.groups[0]) == before
        with pytest.raises(InvalidInput, match="cannot write to"):
            fill(public_folder)
    assert (public_folder / "index.sqlite").read_bytes() == data
    for path in [public_folder, *public_folder.glob("*")]:
        os.chmod(path, 0o755)
    fill(public_folder)
    assert fill.painted == 0


# --------------------------------------------------------------------------------------------------- names of folders
@pytest.mark.parametrize(
    "name",
    [
        "a b", "a?mode=ro", "a#b", "50%41", "line\nbreak", b"\xff\xfe", "🦜" * 63, "x" * 255, "a/../b", "'; DROP",
        "file:x", ":memory:", "<script>alert(1)", "-rf", "~", "$HOME", "tiles", "[a]*",
    ],
)  # fmt: skip
def test_a_folder_may_have_any_name(
    name: str | bytes, fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # also as a relative path
    folder = Path(os.fsdecode(name))
    if ".." in folder.parts:
        Path("a").mkdir()
    before = set(os.listdir())
    assert len(fill(folder).tiles()) == COUNT
    assert len(Gallery.open(folder).tiles()) == COUNT
    fill(folder)
    assert fill.painted == 0
    assert len(set(os.listdir()) - before) == 1
    assert (tmp_path / folder / "index.sqlite").is_file()


def test_a_path_that_sqlite_does_not_take_is_told(fill: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"more than 500 bytes.*shorter path"):
        fill(tmp_path / ("x" * 200) / ("y" * 200) / ("z" * 200))


@pytest.mark.parametrize("name", ["a\0b", "x" * 256, "file/inside", "/proc/new"])
def test_an_impossible_folder_is_told(name: str, fill: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="give another folder"):
        fill(tmp_path / name)
    with pytest.raises(InvalidInput):
        Gallery.open(tmp_path / name)


@pytest.mark.parametrize("name", ["plan.json", "index.sqlite", "tiles"])
def test_what_is_in_the_way_is_told_before_any_work(name: str, fill: Any, tmp_path: Path) -> None:
    if name == "tiles":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(InvalidInput, match=name):
        fill(tmp_path)
    assert fill.painted == 0


# -------------------------------------------------------------------------------------------------- no place, no folder
@pytest.mark.parametrize("place", ["file", "index"])
def test_a_full_disk_is_told_and_keeps_what_is_finished(
    place: str, fill: Any, made: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, done = Store.add, list[int]()

    def filled(self: Store, tiles: Any) -> None:
        done.append(1)
        if len(done) < 3:
            return add(self, tiles)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = 100 if place == "file" else (tmp_path / "index.sqlite").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            return add(self, tiles)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)

    monkeypatch.setattr(Store, "add", filled)
    if place == "index":  # many rows at once, more than the pages that are there
        monkeypatch.setattr(
            "featureviz.gallery.store.writing.to_text", lambda value: index.to_text(value) + " " * 20000
        )
    with pytest.raises(InvalidInput, match=r"File too large|disk I/O error|full") as error:
        fill(tmp_path)
    assert f"{tmp_path} has 4 of 8 tiles; the same command goes on" in str(error.value)
    assert len(Gallery.open(tmp_path).tiles()) == 4
    monkeypatch.undo()
    assert len(fill(tmp_path).tiles()) == COUNT
    assert fill.painted == 4
    assert [p.name for p in tmp_path.rglob(".featureviz-*")] == []


def test_no_space_left_is_told(fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fill(tmp_path / "other")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        fill(tmp_path / "out")


@pytest.mark.parametrize("what", ["folder", "index", "moved"])
def test_a_folder_that_vanishes_is_told_at_the_next_batch(
    what: str, fill: Any, made: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, out, done = Store.add, tmp_path / "out", list[int]()

    def vanishing(self: Store, tiles: Any) -> None:
        done.append(1)
        if len(done) == 3:
            if what == "folder":
                shutil.rmtree(out)
            elif what == "index":
                (out / "index.sqlite").unlink()
            else:
                out.rename(tmp_path / "moved")
        add(self, tiles)

    monkeypatch.setattr(Store, "add", vanishing)
    with pytest.raises(InvalidInput, match="was removed or replaced during the run; leave the folder alone"):
        fill(out)
    assert out.exists() == (what == "index")  # it is not made again
    monkeypatch.undo()
    assert len(fill(out).tiles()) == COUNT
    if what == "moved":
        fill(tmp_path / "moved")
        assert fill.painted == 4
