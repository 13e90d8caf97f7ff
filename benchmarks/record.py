"""What every result says about where it was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write(name: str, result: dict[str, Any], *, out: Path = RESULTS, measured: dict[str, Any] | None = None) -> Path:
    """``out/NAME.json``: the result with machine, versions, commit and date, or with what ``measured`` says of them."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    where = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "device": "cpu",
        "versions": {n: version(n) for n in ("featureviz", "torch", "torchvision")}
        | {"python": platform.python_version()},
    }
    for key, value in (measured or {}).items():
        where[key] = where[key] | value if key == "versions" else value
    text = json.dumps({"measured": where, **result}, indent=1, allow_nan=False)
    if "suite" in result:
        text = re.sub(r"\[[-\d.,e+\snul]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text)  # a line a list
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(text + "\n")
    return path


def machine(threads: int) -> dict[str, Any]:
    """The processor, and how busy it is before anything is measured."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load before": [round(v, 2) for v in os.getloadavg()],
    }


def device(name: str) -> str:
    """``"cpu"``, or what the GPU calls itself."""
    return name if name == "cpu" else torch.cuda.get_device_name(name)


def versions_in(folder: Path | None, names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages in ``folder``, or installed here."""
    wanted = {_plain(name) for name in names}
    here = [*distributions(), *(distributions(path=[str(folder)]) if folder else ())]  # the folder's go before
    return {_plain(d.name): d.version for d in here if _plain(d.name) in wanted}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()
