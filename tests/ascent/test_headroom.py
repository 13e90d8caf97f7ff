"""Freed memory that stays for the next step: no page is asked for twice, and all goes back in the end."""

import subprocess
import sys

import pytest
import torch

from featureviz.ascent.headroom import headroom

STEPS = """
import resource, torch, featureviz as fv, featureviz.ascent.ascent
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if not {kept}:
    featureviz.ascent.ascent.headroom = lambda device: torch.empty(0)
torch.set_num_threads(1)
model = fv.load("embedded")
before = resident()
image, how = fv.FourierImage(24, 96), fv.Runtime(redirect=0)
ascent = fv.Ascent(model, fv.Channel("features.6", list(range(24))), image, runtime=how)
for _ in range(3):
    ascent.step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    ascent.step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
held = resident() - before
del ascent
print(faults, held, resident() - before)
"""
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's way of handing memory back")


@LINUX
def test_a_step_asks_for_no_page_again() -> None:
    faults, held, left = _steps(kept=True)
    without, held_without, _ = _steps(kept=False)
    assert 4 * faults < without
    assert held < held_without + 2**28
    assert left < held  # the memory is the system's again


def test_a_device_that_keeps_memory_itself_needs_no_headroom() -> None:
    assert len(headroom(torch.device("meta"))) == 0


@LINUX
def test_no_headroom_where_addresses_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 33292288 bytes.")

    monkeypatch.setattr(torch, "empty", full)
    assert len(headroom(torch.device("cpu"))) == 0


@LINUX
def test_other_failures_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "empty", broken)
    with pytest.raises(RuntimeError, match="something else"):
        headroom(torch.device("cpu"))


def _steps(*, kept: bool) -> list[int]:
    run = subprocess.run([sys.executable, "-c", STEPS.format(kept=kept)], capture_output=True, text=True, check=True)
    return [int(word) for word in run.stdout.split()]
