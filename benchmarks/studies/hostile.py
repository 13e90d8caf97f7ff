"""Does anything break the library? Hostile specs, arguments and files, Ctrl-C at random instants, threads.

    python -m benchmarks.studies.hostile [--quick] [--seed N]

Whatever is given, there must be a result or a ``FeaturevizError``: no other exception, no hang, no crash. What parses
must be read back from its text. After Ctrl-C, and beside other threads, a render must be what it is alone. Specs, calls
and files run in worker processes with a time limit and a memory limit. The exit code is 1 if anything fails.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import featureviz as fv
from benchmarks.studies.hostile_calls import RENDER, find_targets, make_calls
from benchmarks.studies.hostile_cases import (
    Case,
    Failure,
    Mismatch,
    make_files,
    make_model,
    make_network,
    make_readings,
    try_cases,
)  # fmt: skip
from benchmarks.studies.hostile_specs import make_specs
from featureviz import lab
from featureviz.network.surroundings import modes_kept

Tried = tuple[int, list[Failure]]  # how many, and what failed


# ------------------------------------------------------------------------------------------------------------- Ctrl-C
class Work(NamedTuple):
    """Something that Ctrl-C may hit: ``run(model)``, on a model that stays, or on a fresh one each time."""

    name: str
    embedded: bool
    fresh: bool
    share: float  # of all instants
    run: Callable[[fv.TappedModel], object]


def render_with(model: fv.TappedModel, site: str, layer: str) -> None:
    with fv.clamp(model, site, 0.5), fv.redirected(model):
        fv.render(model, f"{layer}:1", **RENDER)


WORKS = (
    Work("render", False, False, 0.2, lambda m: render_with(m, "se", "conv")),
    Work("evaluate", False, False, 0.1, lambda m: fv.evaluate(m, "conv:1", m.noise_images(2))),
    Work("statistics", False, False, 0.15, lambda m: lab.GateStatistics.measure(m, m.noise_images(4))),
    Work("gates", False, True, 0.15, fv.gates),
    Work("layers", False, True, 0.1, fv.layers),
    Work("wrap and render", False, True, 0.1, lambda m: render_with(m, "se", "conv")),
    Work("render", True, False, 0.08, lambda m: render_with(m, "features.3.block.2", "features.4")),
    Work("evaluate", True, False, 0.04, lambda m: fv.evaluate(m, "features.6:1", m.noise_images(1, (32, 32)))),
    Work("statistics", True, False, 0.04, lambda m: lab.GateStatistics.measure(m, m.noise_images(2, (32, 32)))),
    Work("gates", True, True, 0.02, fv.gates),
    Work("layers", True, True, 0.02, fv.layers),
)


def make_interrupts(seed: int, share: float) -> list[Case]:
    """KeyboardInterrupt at instants that are spread over each work; afterwards all must be as before."""
    rng, cases = random.Random(seed), list[Case]()
    for work in WORKS:
        count = max(1, round(1_000 * share * work.share))
        for i in range(count):
            at, what = (i + rng.random()) / count, "the embedded network" if work.embedded else "a tiny network"
            looks = work.fresh or not work.embedded or i % 10 == 9 or i == count - 1
            cases.append(Case(f"{work.name} of {what}, after {at:.1%}", partial(interrupt_work, work, at, looks)))
    return cases


def interrupt_work(work: Work, at: float, looks: bool) -> None:
    """Interrupt the work after a share of its time; with ``looks`` the next renders are compared too."""
    net, model, reference, seconds = measure(work)
    if work.fresh:
        net, model = prepare(work)
    with modes_kept():  # what is left behind counts once
        check_after(work, net, model, at * seconds, reference if looks else None)


@cache
def measure(work: Work) -> tuple[nn.Module, fv.TappedModel, torch.Tensor, float]:
    """A network and its model, what the model renders, and how long the work takes."""
    (net, model), seconds = prepare(work), list[float]()
    reference = picture(model, work)
    for _ in range(4):
        own = prepare(work)[1] if work.fresh else model
        start = time.perf_counter()
        work.run(own)
        seconds.append(time.perf_counter() - start)
    return net, model, reference, statistics.median(seconds[1:])


def prepare(work: Work) -> tuple[nn.Module, fv.TappedModel]:
    """The caller's network and its model."""
    net = fv.load("embedded").net if work.embedded else make_network()
    size = {"mean": 0.45, "std": 0.225, "size": 32}
    return net, fv.wrap(net, **size) if work.embedded else make_model(net)


def picture(model: fv.TappedModel, work: Work) -> torch.Tensor:
    return fv.render(model, "features.4:1" if work.embedded else "conv:1 + gate:se:2", **RENDER).images


def check_after(
    work: Work, net: nn.Module, model: fv.TappedModel, delay: float, reference: torch.Tensor | None
) -> None:
    """Interrupt the work, and look at what it left."""
    before = signal.getsignal(signal.SIGINT)
    interrupt(partial(work.run, model), delay)
    hooks = [m for n in (net, model.net) for m in n.modules() if m._forward_hooks or m._forward_pre_hooks]
    left = {
        "function modes": _get_current_function_mode_stack(), "dispatch modes": _get_current_dispatch_mode_stack(),
        "no gradients": not torch.is_grad_enabled(), "autocast": torch.is_autocast_enabled("cpu"), "hooks": hooks,
        "inference mode": torch.is_inference_mode_enabled(), "handler": signal.getsignal(signal.SIGINT) is not before,
    }  # fmt: skip
    if any(left.values()):
        raise Mismatch(f"left behind: {', '.join(name for name, value in left.items() if value)}")
    if reference is None:
        return
    with ThreadPoolExecutor(1) as pool:  # that waits for ever for a lock that was not released
        elsewhere = pool.submit(picture, model, work).result()
    if not torch.equal(picture(model, work), reference) or not torch.equal(elsewhere, reference):
        raise Mismatch("the next render is another one")


def interrupt(run: Callable[[], object], delay: float) -> None:
    """Run with a KeyboardInterrupt after ``delay`` seconds, unless it has ended by then."""
    armed = [True]

    def ring(*_: object) -> None:
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))
        run()
        armed.clear()
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


# ------------------------------------------------------------------------------------------------------------ threads
def make_threads(seed: int, share: float) -> list[Case]:
    """Four threads on one model: two under interventions, one with redirected gradients; each as it is alone."""
    count = max(1, round(25 * share))
    return [Case(f"4 threads, {count} renders each", partial(render_in_threads, seed, count))]


def render_in_threads(seed: int, count: int) -> None:
    model, together = make_model(), threading.Barrier(4)
    interventions = [partial(fv.clamp, model, "se", 0.3), partial(fv.scale, model, "se", 2.0)]
    contexts = [nullcontext, *interventions, partial(fv.redirected, model)]

    def work(thread: int, alone: bool) -> list[torch.Tensor]:
        made = list[torch.Tensor]()
        for i in range(count):
            if not alone:
                together.wait()
            with contexts[thread]():
                options: dict[str, Any] = RENDER | {"steps": 6, "seed": seed + i}
                made.append(fv.render(model, f"conv:{(i + thread) % 8}", **options).images)
        return made

    expected = [work(thread, True) for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(work, range(4), [False] * 4))
    wrong = [(t, i) for t in range(4) for i in range(count) if not torch.equal(made[t][i], expected[t][i])]
    if wrong:
        raise Mismatch(f"{len(wrong)} of {4 * count} renders differ from those alone, the first: {wrong[0]}")


# ---------------------------------------------------------------------------------------------------------- the whole
def try_specs(seed: int, share: float) -> Tried:
    count = round(20_000 * share)
    return count, try_cases(partial(make_specs, seed, count), range(count), chunk=2_500)


def try_calls(seed: int, share: float) -> Tried:
    """All valid calls, and a share of the hostile ones."""
    valid, total = len(list(find_targets())), len(make_calls())
    hostile = random.Random(seed).sample(range(valid, total), round((total - valid) * share))
    return valid + len(hostile), try_cases(make_calls, [*range(valid), *sorted(hostile)])


def try_files(seed: int, share: float) -> Tried:
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), seed, 12)
        make = partial(make_readings, folder)
        total = len(make())
        numbers = sorted(random.Random(seed).sample(range(total), round(total * share)))
        return len(numbers), try_cases(make, numbers, seconds=5)


def try_interrupts(seed: int, share: float) -> Tried:
    make = partial(make_interrupts, seed, share)
    return len(make()), try_cases(make, range(len(make())))


def try_threads(seed: int, share: float) -> Tried:
    return 4 * round(25 * share), try_cases(partial(make_threads, seed, share), range(1), seconds=120)


PARTS: dict[str, Callable[[int, float], Tried]] = {
    "specs": try_specs, "calls": try_calls, "files": try_files, "Ctrl-C": try_interrupts, "threads": try_threads,
}  # fmt: skip


def print_failures(failures: list[Failure]) -> None:
    """Each kind of failure at each place, with an example."""
    groups = defaultdict[tuple[str, str, str], list[Failure]](list)
    for failure in failures:
        where = failure.where or re.split(r"[(:]", failure.case)[0]
        groups[where, failure.kind, failure.error.split(":")[0]].append(failure)
    for (where, kind, _), found in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"{len(found):5} {kind:8} {where:45} {found[0].case} -> {found[0].error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    failures = list[Failure]()
    print(f"{'':8} {'tried':>7} {'raw':>7} {'hangs':>7} {'crashes':>7} {'wrong':>7} {'seconds':>7}")
    for name, part in PARTS.items():
        start = time.perf_counter()
        tried, found = part(args.seed, 0.05 if args.quick else 1.0)
        kinds, failures = Counter(failure.kind for failure in found), failures + found
        numbers = [tried, *(kinds[kind] for kind in ("raw", "hang", "crash", "mismatch"))]
        print(f"{name:8}", *(f"{n:7}" for n in numbers), f"{time.perf_counter() - start:7.0f}", flush=True)
    print_failures(failures)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
