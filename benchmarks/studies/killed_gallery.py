"""Does a gallery survive anything that ends its run? Runs are ended at many instants and resumed until they are whole.

    python -m benchmarks.studies.killed_gallery [--quick] [--seed N]

SIGKILL comes at random instants of runs that render (``rendered``), and of runs that do little but write files and
rows while others read them (``written``). It also comes at chosen points (``points``), such as within the write of the
plan or a commit of SQLite. Ctrl-C comes at random instants of both kinds of runs (``Ctrl-C``).

A run is ended up to three times and resumed, then runs to its end. After each run every tile that the gallery lists
must have the bytes of an uninterrupted run, and no batch that was finished may be rendered again. In the end the
gallery must be that of the uninterrupted run, and nothing else may be left. The exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

import featureviz as fv
from featureviz.gallery import Gallery, Plan, Tile, plan, render_plan
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.engine.run import Engine
from featureviz.gallery.store.writing import Made, Store
from featureviz.rendering.png import encode_png

ENDS = 3  # of one gallery, before it may run to its end
Before = Callable[[], None]  # what a run does before it begins, such as to plan its own death


def paint(_: fv.TappedModel, batches: Sequence[Sequence[Tile]], __: Mapping[str, Any]) -> Generator[list[Made]]:
    """Tiles without a network: their pixels depend on the key."""
    for tiles in batches:
        made = list[Made]()
        for tile in tiles:
            generator = torch.Generator().manual_seed(int(tile.key[:8], 16))
            image = torch.rand(3, 16, 16, generator=generator)
            made.append(Made(tile.key, encode_png(image, {"spec": tile.spec}), {"score": 0.5}, (0.1, 0.5), 0.25))
        yield made


# ------------------------------------------------------------------------------------------------------ points of death
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(
    call: int, owner: Any, name: str, right: Callable[..., bool] = lambda *_: True, *, after: bool = False
) -> None:
    """From now on the process is killed at the n-th call of ``owner.name`` whose arguments are ``right``."""
    original, count = getattr(owner, name), [0]

    def deadly(*args: Any, **kwargs: Any) -> Any:
        count[0] += right(*args)
        if count[0] == call and right(*args) and not after:
            die()
        result = original(*args, **kwargs)
        if count[0] == call and right(*args):
            die()
        return result

    setattr(owner, name, deadly)


def die_in_commit(call: int) -> None:
    """At the n-th commit of tiles, with a part of it in the file of the index and not in its journal alone."""
    original, count = Store.insert, [0]

    def deadly(self: Store, table: str, rows: Any) -> None:
        count[0] += table == "tiles"
        if table != "tiles" or count[0] < call:
            return original(self, table, rows)
        self._connection.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the commit
        self._connection.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?, ?)", rows)
        self._connection.executemany("INSERT INTO about VALUES (?, ?)", [(str(i), "x" * 999) for i in range(2000)])
        return die()

    Store.insert = deadly


def die_in_write(call: int) -> None:
    """When half of the n-th file is written."""
    original, count = os.fdopen, [0]

    def deadly(handle: int, *args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == call:
            os.write(handle, b"half")
            die()
        return original(handle, *args, **kwargs)

    os.fdopen = deadly


def is_plan(_: Any, path: Any, *__: Any) -> bool:
    return Path(path).name == "plan.json"


def is_tile(_: Any, path: Any, *__: Any) -> bool:
    return Path(path).suffix == ".png"


def is_row(_: Any, table: str, *__: Any) -> bool:
    return table == "tiles"


POINTS: dict[str, Callable[[int], None]] = {
    "before the plan is there": lambda _: die_at(1, os, "replace", is_plan),
    "when the plan is there": lambda _: die_at(1, os, "replace", is_plan, after=True),
    "within the write of a file": die_in_write,
    "before a file has its name": lambda call: die_at(call, os, "replace", is_tile),
    "when a file has its name": lambda call: die_at(call, os, "replace", is_tile, after=True),
    "between files and their rows": lambda call: die_at(call, Store, "insert", is_row),
    "within a commit": die_in_commit,
    "after a commit": lambda call: die_at(call, Store, "insert", is_row, after=True),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the runs
class Tried(NamedTuple):
    """How many runs were ended, batches rendered twice because they were in flight, and what was wrong."""

    ended: int
    again: int
    wrong: list[str]


@final
class Subject:
    """A plan, what renders it, and the gallery that comes of it if nothing ends the run."""

    def __init__(self, made: Plan, model: fv.TappedModel, engine: Engine, place: Path) -> None:
        self.plan, self.model, self.engine, self.place = made, model, engine, place
        started = time.perf_counter()
        if self.wait(self.start(place / "whole")) != 0:
            raise SystemExit("the uninterrupted run failed")
        self.seconds = time.perf_counter() - started
        self.whole = describe(place / "whole")
        self.batches = {tile.key: number for number, tiles in enumerate(made.batches()) for tile in tiles}

    def start(self, folder: Path, before: Before = lambda: None) -> int:
        """Fork a process that renders the plan into ``folder``; it writes down each batch that it begins."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            before()
            render_plan(self.plan, self.model, folder, engine=partial(self._noted, f"{folder}.begun"), progress=False)
            code = 0
        except KeyboardInterrupt as stop:
            Path(f"{folder}.said").write_text(str(stop))
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _noted(self, begun: str, model: fv.TappedModel, batches: Any, options: Any) -> Generator[list[Made]]:
        for tiles in batches:
            with open(begun, "ab", buffering=0) as file:  # one write, which a kill does not cut
                file.write(f"{tiles[0].key}\n".encode())
            yield from self.engine(model, [tiles], options)

    @staticmethod
    def wait(pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def end(self, folder: Path, instant: float, number: int, reading: bool) -> int:
        """Start a run and send it a signal after so many seconds; meanwhile read the gallery, if ``reading``."""
        pid, until = self.start(folder), time.perf_counter() + instant
        while time.perf_counter() < until:
            if reading and (folder / "plan.json").exists():
                Gallery.open(folder).tiles()
            else:
                time.sleep(min(0.01, instant))
        os.kill(pid, number)
        return self.wait(pid)

    def finish(self, name: str, ends: Sequence[Callable[[Path], int]]) -> Tried:
        """Let runs into one folder be ended so, then let one go to its end, and look at the folder after each."""
        folder, wrong, ended, again, finished = self.place / name, list[str](), 0, 0, set[str]()
        begun, seen = Path(f"{folder}.begun"), 0
        for end in [*ends, lambda folder: self.wait(self.start(folder))]:
            code = end(folder)
            lines = begun.read_text().split() if begun.exists() else []
            repeated = finished & set(lines[seen:])
            wrong += [f"{name}: {len(repeated)} finished batches were rendered again"] if repeated else []
            ended, seen = ended + (code != 0), len(lines)
            wrong += [f"{name}: a run failed with {code}"] if code not in (0, 130, -signal.SIGKILL) else []
            wrong += self._look(folder, finished, code)
        again = seen - len(set(self.batches.values()))
        if describe(folder) != self.whole:
            wrong.append(f"{name}: the folder differs from that of an uninterrupted run")
        if again > ended:
            wrong.append(f"{name}: {again} batches were rendered twice after {ended} ends")
        return Tried(ended, again, wrong)

    def _look(self, folder: Path, finished: set[str], code: int) -> list[str]:
        """What is wrong with the gallery that is there; ``finished`` gets the keys of its tiles."""
        if not (folder / "plan.json").exists():
            return []
        gallery = Gallery.open(folder)
        tiles = gallery.tiles()
        finished |= {stored.tile.key for stored in tiles}
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
        bad = [s.tile.file for s in tiles if files.get(s.tile.file) != self.whole["files"][s.tile.file]]
        wrong = [f"{folder.name}: {len(bad)} tiles differ"] if bad else []
        said = Path(f"{folder}.said")
        if code == 130 and said.read_text() and f"has {len(tiles)} of {len(self.plan)} tiles" not in said.read_text():
            wrong.append(f"{folder.name}: {said.read_text()!r} was said of {len(tiles)} tiles")
        return wrong


def describe(folder: Path) -> dict[str, Any]:
    """All of a gallery's folder but what is different in each run: the seconds."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    content = {name: path.read_bytes() for name, path in files.items() if not name.endswith(".sqlite")}
    gallery = Gallery.open(folder)
    return {"files": content, "names": list(files), "rows": [(s.tile, s.figures, s.trace) for s in gallery.tiles()]}


# ------------------------------------------------------------------------------------------------------------ the parts
def try_instants(subject: Subject, name: str, count: int, rng: random.Random, number: int, reading: bool) -> Tried:
    """Galleries of which runs get a signal, until it came ``count`` times."""
    ended, again, wrong = 0, 0, list[str]()
    while ended < count:
        times = [rng.uniform(0, subject.seconds) for _ in range(min(ENDS, count - ended))]
        ends = [partial(subject.end, instant=t, number=number, reading=reading) for t in times]
        tried = subject.finish(f"{name} {ended}", ends)
        ended, again, wrong = ended + max(1, tried.ended), again + tried.again, wrong + tried.wrong
    return Tried(ended, again, wrong)


def try_points(subject: Subject, rounds: int, rng: random.Random) -> Tried:
    """Galleries of which a run dies at each of the chosen points, at an early and at a late call."""
    ended, again, wrong = 0, 0, list[str]()
    for point, plan_death in POINTS.items():
        for turn in range(rounds):
            before = partial(plan_death, rng.randint(1, 5))

            def end(folder: Path, before: Before = before) -> int:
                return subject.wait(subject.start(folder, before))

            tried = subject.finish(f"{point} {turn}", [end])
            ended, again, wrong = ended + tried.ended, again + tried.again, wrong + tried.wrong
            wrong += [] if tried.ended == 1 else [f"{point}: it was not reached"]
    return Tried(ended, again, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few instants of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng, many = random.Random(args.seed), 2 if args.quick else 40
    torch.manual_seed(0)
    gated = nn.Sequential(nn.Conv2d(3, 16, 3, 2), SqueezeExcitation(16, 4), nn.Conv2d(16, 16, 3))
    model = fv.wrap(gated, size=24)
    options: dict[str, Any] = {"steps": 3, "size": 24, "batch": 2}
    small = plan(model, layers=["2"], gates="all", units=range(2 if args.quick else 10), **options)
    large = plan(model, layers=["0", "2"], units=range(4 if args.quick else 16), **options)
    failures = list[str]()
    print(f"{'':9} {'ended':>6} {'twice':>6} {'wrong':>6} {'seconds':>8}   a whole run")
    with tempfile.TemporaryDirectory() as place:
        for name, made, engine in (("rendered", small, render_here), ("written", large, paint)):
            folder = Path(place) / name
            folder.mkdir()
            subject = Subject(made, model, engine, folder)
            parts = {
                name: partial(try_instants, subject, name, many, rng, signal.SIGKILL, name == "written"),
                "Ctrl-C": partial(try_instants, subject, "Ctrl-C", many, rng, signal.SIGINT, name == "written"),
                "points": partial(try_points, subject, 1 if args.quick else 5, rng),
            }  # fmt: skip
            chosen = list(parts) if name == "written" else list(parts)[: 1 if args.quick else 2]
            for part in chosen:
                started = time.perf_counter()
                tried = parts[part]()
                failures += tried.wrong
                last = f"{time.perf_counter() - started:8.1f}   {len(made)} tiles in {subject.seconds:.2f} s"
                print(f"{part:9} {tried.ended:6} {tried.again:6} {len(tried.wrong):6} {last}", flush=True)
    print(*failures[:20], sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
