"""What every result says about where it was measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write(name: str, result: dict[str, Any]) -> Path:
    """``results/NAME.json``: the result with machine, versions, commit and date."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    where = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "device": "cpu",
        "versions": {n: version(n) for n in ("featureviz", "torch", "torchvision")}
        | {"python": platform.python_version()},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"measured": where, **result}, indent=1) + "\n")
    return path
