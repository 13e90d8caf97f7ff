"""Cases that run in worker processes, so that a crash, a hang or a full memory ends one case and not the study.

Also the hostile files: every reader of the library on broken, huge, special and misleading ones.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

import featureviz as fv
from featureviz import lab

SIZE, LABELS = 24, ["ant", "bee", "cat", "dog", "eel"]
SECONDS, MEMORY, CHUNK = 20.0, 4 << 30, 200  # of one case; beyond what a worker needs before it; cases of one worker
PRELOADED = ["benchmarks.studies.hostile_calls", "kornia.color", "kornia.filters", "captum.attr", "torchvision"]


class Case(NamedTuple):
    """Something to try: it must give a result or raise a ``FeaturevizError``."""

    name: str
    run: Callable[[], object]


class Failure(NamedTuple):
    """A case that did something else: ``kind`` is "raw", "hang", "crash" or "mismatch"."""

    kind: str
    case: str
    error: str = ""
    where: str = ""


class Mismatch(Exception):
    """A case gave a result that is wrong."""


MakeCases = Callable[[], Sequence[Case]]  # can be pickled, and makes the same cases in every process


def attempt(case: Case) -> Failure | None:
    """Run the case here; what is wrong with it, if anything is."""
    try:
        case.run()
    except fv.FeaturevizError:
        return None
    except Mismatch as error:
        return Failure("mismatch", case.name, str(error))
    except BaseException as error:  # this is what the study looks for
        message = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        return Failure("raw", case.name, message, find_place(error))
    return None


def find_place(error: BaseException) -> str:
    """``file:line`` of the last frame of the traceback that is the library's own."""
    packages = {Path(fv.__file__).parent: "featureviz", Path(fv.__file__).parents[1] / "objectives_zoo": "zoo"}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for folder, name in packages.items():
            if folder in Path(frame.filename).parents:
                return f"{name}/{Path(frame.filename).relative_to(folder)}:{frame.lineno}"
    return "outside"


def try_cases(
    make: MakeCases, numbers: Sequence[int], *, seconds: float = SECONDS, chunk: int = CHUNK
) -> list[Failure]:
    """Try the cases of these numbers, each for at most so many seconds; a worker tries ``chunk`` of them."""
    context, failures, left = multiprocessing.get_context("forkserver"), list[Failure](), list(numbers)
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        while left:
            ours, its = context.Pipe()
            worker = context.Process(target=_serve, args=(its, make, left[:chunk], folder), daemon=True)
            worker.start()
            its.close()
            try:
                done, found = _listen(ours, worker, min(chunk, len(left)), seconds)
            finally:
                worker.kill()
                worker.join()
                ours.close()
            left, failures = left[done:], failures + found
    return failures


def _listen(connection: Connection, worker: Any, count: int, seconds: float) -> tuple[int, list[Failure]]:
    """How many of its ``count`` cases the worker has tried, the one that stopped it among them, and what failed."""
    done, failures, name = 0, list[Failure](), ""
    while done < count:
        if not connection.poll(seconds if name else 60):
            failures.append(Failure("hang", name, f"no answer in {seconds:.0f} s"))
            return done + 1, failures
        try:
            message = connection.recv()
        except EOFError:
            worker.join()
            failures.append(Failure("crash", name, f"exit code {worker.exitcode}"))
            return done + 1, failures
        if isinstance(message, str):
            name = message
        else:
            done += 1
            failures += [message] if message else []
    return done, failures


def _serve(connection: Connection, make: MakeCases, numbers: Sequence[int], folder: str) -> None:
    """Try the cases one after the other, and tell each one's name before and what became of it after."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.chdir(folder)
    cases = make()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        connection.send(cases[number].name)
        connection.send(attempt(cases[number]))


# ----------------------------------------------------------------------------------------------------------- the model
class TinyNetwork(nn.Module):
    """Convolution, batch norm, ReLU in place, a gated block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.se = SqueezeExcitation(8, 4, scale_activation=nn.Hardsigmoid)
        self.conv, self.head = nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv(self.se(x))
        y += x
        return self.head(y.mean((2, 3)))


def make_network() -> TinyNetwork:
    """Always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyNetwork()


def make_model(net: nn.Module | None = None) -> fv.TappedModel:
    return fv.wrap(net or make_network(), mean=0.5, std=0.25, size=SIZE, labels=LABELS, name="tiny")


# ------------------------------------------------------------------------------------------------------------- files
RECIPES = ("not json", "[1]", "NaN", '"text"', "null", "[" * 100_000, '{"seed": ' * 5_000, "\0", "{}", '{"a": 1e999}')
PICTURE, WEIGHTS, STATISTICS = (".png", ".jpg", ".gif", ".bmp", ".webp"), (".pt", ".safetensors"), ".stat"


def make_files(folder: Path, seed: int, variants: int) -> None:
    """Fill ``folder`` with valid files, ``variants`` broken ones of each, and special ones."""
    rng, model = random.Random(seed), make_model()
    state, pixels = fv.load("embedded", weights=None).net.state_dict(), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    fv.render(model, "stem:1", steps=1, size=24, progress=False).save(folder / "valid.png")
    for suffix in PICTURE[1:]:
        iio.imwrite(folder / f"valid{suffix}", pixels.integers(0, 256, (20, 30, 3), np.uint8))
    torch.save(state, folder / "valid.pt")
    (folder / "valid.safetensors").write_bytes(save(state))
    lab.GateStatistics.measure(model, torch.rand(4, 3, 24, 24)).save(folder / f"valid{STATISTICS}")
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for i in range(variants):
            broken = data[: rng.randrange(len(data))] if i % 2 else flip_bits(data, rng)
            (folder / f"broken-{i}{path.suffix}").write_bytes(broken)
    make_special(folder)
    make_contents(folder, state, rng)


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Some bits changed, half of them in the header."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(min(len(data), 200) if rng.random() < 0.5 else len(data))
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def make_special(folder: Path) -> None:
    """Empty, huge, of another format, no file at all, links, names that are not UTF-8."""
    png = (folder / "valid.png").read_bytes()
    side = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    chunk = b"IHDR" + side + bytes([8, 2, 0, 0, 0])
    sized = png[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    bmp = (folder / "valid.bmp").read_bytes()
    gif = (folder / "valid.gif").read_bytes()
    huge = {
        ".png": sized, ".bmp": bmp[:18] + struct.pack("<ii", 2**30, 2**30) + bmp[26:],
        ".gif": gif[:6] + b"\xff\xff\xff\xff" + gif[10:], ".safetensors": struct.pack("<Q", 2**62) + b"{}",
    }  # fmt: skip
    for suffix, data in huge.items():
        (folder / f"huge{suffix}").write_bytes(data)
    for suffix in (*PICTURE, *WEIGHTS, STATISTICS):
        (folder / f"empty{suffix}").write_bytes(b"")
        (folder / f"text{suffix}").write_text("{'a': 1}\n" * 99)
        (folder / f"another{suffix}").write_bytes(bmp if suffix in WEIGHTS else (folder / "valid.pt").read_bytes())
        (folder / f"directory{suffix}").mkdir()
        (folder / f"dangling{suffix}").symlink_to("nowhere")
        (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
        os.mkfifo(folder / f"pipe{suffix}")
        (folder / f"endless{suffix}").symlink_to("/dev/zero")
        with (folder / f"sparse{suffix}").open("wb") as file:
            file.truncate(1 << 40)
        name = os.fsdecode(b"\xff\xfe" + suffix.encode())
        (folder / name).write_bytes((folder / f"valid{suffix}").read_bytes())
    for i, text in enumerate(RECIPES):
        body = b"iTXtfeatureviz\0\0\0\0\0" + text.encode()
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        (folder / f"recipe-{i}.png").write_bytes(png[:33] + chunk + png[33:])
    (folder / "circle").mkdir()
    (folder / "circle" / "again").symlink_to("..")


def make_contents(folder: Path, state: dict[str, Any], rng: random.Random) -> None:
    """Files that torch reads, with something else in them than is expected."""
    values = [None, 5, "text", [], {}, torch.zeros(0), torch.full((3, 3), torch.nan), torch.rand(2).to_sparse(), 1j]
    first = next(iter(state))
    for i, value in enumerate([*values, {1: torch.zeros(1)}]):
        torch.save(value, folder / f"content-{i}.pt")
        torch.save({"state_dict": value}, folder / f"wrapped-{i}.pt")
        torch.save({**state, first: value}, folder / f"entry-{i}.pt")
        saved = torch.load(folder / f"valid{STATISTICS}", weights_only=True)
        torch.save(value, folder / f"content-{i}{STATISTICS}")
        for j in range(6):
            table, changed = saved, dict(saved)
            path = changed
            while isinstance(table, dict) and table and (table is saved or rng.random() < 0.7):
                key = rng.choice(sorted(table, key=str))
                parent, table = path, table[key]
                path = dict(table) if isinstance(table, dict) else {}
                parent[key] = path if isinstance(table, dict) else value
            torch.save(changed, folder / f"field-{i}-{j}{STATISTICS}")


def make_readings(folder: str) -> list[Case]:
    """Every reader on the files that it may be given: those with its own endings, and some others."""

    def show(path: Path) -> None:
        for _ in lab.batches(path, 16):
            pass

    def load_statistics(path: Path) -> None:
        natural = lab.GateStatistics.load(path)
        natural.table()
        for site in natural.sites:
            natural.percentile(site, 0, torch.zeros(1))
            natural.quantile(site, 0.5)
            natural.examples(site, 0)

    model = make_model()
    readers: list[tuple[str, Callable[[Path], object], tuple[str, ...]]] = [
        ("read_picture", lambda path: lab.read_picture(path, 16), PICTURE),
        ("Pictures", lambda path: list(lab.Pictures([path], 16)), PICTURE),
        ("read_recipe", fv.read_recipe, PICTURE),
        ("render(image=)", lambda path: fv.render(model, "stem:1", image=path, steps=1, progress=False), PICTURE),  # pyright: ignore[reportArgumentType]
        ("load(weights=)", lambda path: fv.load("embedded", weights=path), WEIGHTS),
        ("GateStatistics.load", load_statistics, (STATISTICS, *WEIGHTS)),
    ]  # fmt: skip
    cases = [Case(f"batches({folder})", partial(show, Path(folder)))]
    for path in sorted(Path(folder).iterdir()):
        cases += [Case(f"batches({path.name})", partial(show, path))] if path.is_dir() else []
        for name, read, endings in readers:
            if path.suffix in endings or path.name.startswith(("text", "empty")):
                cases.append(Case(f"{name}({path.name!r})", partial(read, path)))
    return cases
