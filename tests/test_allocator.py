"""Freed memory that stays: no page is asked for twice."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch, featureviz as fv
kept = {keep} and fv.keep_freed_memory()
torch.set_num_threads(1)
ascent = fv.Ascent(fv.load("embedded"), fv.Channel("features.6", list(range(8))), fv.FourierImage(8, 96))
for _ in range(3):
    ascent.step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    ascent.step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's mallopt")
def test_a_step_asks_for_no_page_again() -> None:
    kept, faults = _steps(True)
    assert kept == "True"
    assert 4 * faults < _steps(False)[1]


def _steps(keep: bool) -> tuple[str, int]:
    run = subprocess.run([sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True)
    kept, faults = run.stdout.split()
    return kept, int(faults)
