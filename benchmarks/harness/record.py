"""Writes results, and collects what each result says about the machine and the versions."""

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

RESULTS = Path(__file__).parents[1] / "results"


def write_result(
    name: str, result: dict[str, Any], *, out: Path = RESULTS, measured: dict[str, Any] | None = None
) -> Path:
    """Write ``out/NAME.json``: the result with machine, versions, commit and date.

    Entries of ``measured`` replace the defaults; its versions are added to them.
    """
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
    if "suite" in result:  # each list of numbers on one line
        text = re.sub(r"\[[-\d.,e+\snul]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), text)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(text + "\n")
    return path


def describe_machine(threads: int) -> dict[str, Any]:
    """The processor, and how busy it is before the measurement."""
    return {
        "cpu": _read_cpu_name(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load before": [round(v, 2) for v in os.getloadavg()],
    }


def describe_device(name: str) -> str:
    """``"cpu"``, or the name of the GPU."""
    return name if name == "cpu" else torch.cuda.get_device_name(name)


def read_versions(folder: Path | None, names: Iterable[str]) -> dict[str, str]:
    """Versions of these packages, from ``folder`` where they are in it, else as installed."""
    wanted = {_normalize(name) for name in names}
    packages = [*distributions(), *(distributions(path=[str(folder)]) if folder else ())]  # later ones replace earlier
    return {_normalize(d.name): d.version for d in packages if _normalize(d.name) in wanted}


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _read_cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.is_file() else None
    return model[1] if model else platform.processor() or platform.machine()
