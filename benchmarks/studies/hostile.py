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
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
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
    attempt,
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


def try_interrupts(seed: int, share: float) -> Tried:
    """KeyboardInterrupt at instants that are spread over each work; afterwards all must be as before."""
    tried, failures, hook = 0, list[Failure](), sys.unraisablehook
    sys.unraisablehook = lambda _: None  # Python drops an interrupt inside the callback of a weak reference
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # images that no step has moved
            for work in WORKS:
                cases = list(interrupt_work(work, max(1, round(1_000 * share * work.share)), random.Random(seed)))
                tried += len(cases)
                failures += [failure for failure in cases if failure]
    finally:
        sys.unraisablehook = hook
    return tried, failures


def interrupt_work(work: Work, count: int, rng: random.Random) -> Iterator[Failure | None]:
    """Interrupt the work so many times; what was wrong each time."""
    net, model = prepare(work)
    reference, seconds = picture(model, work), list[float]()
    for _ in range(4):
        own = prepare(work)[1] if work.fresh else model
        start = time.perf_counter()
        work.run(own)
        seconds.append(time.perf_counter() - start)
    for i in range(count):
        net, model = prepare(work) if work.fresh else (net, model)
        delay = (i + rng.random()) / count * statistics.median(seconds[1:])
        looks = work.fresh or not work.embedded or i % 10 == 9 or i == count - 1
        check = partial(check_after, work, net, model, delay, reference if looks else None)
        what = "the embedded network" if work.embedded else "a tiny network"
        with modes_kept():  # what one left would be counted again and again
            yield attempt(Case(f"{work.name} of {what}, after {delay:.4f} s", check))


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
    if reference is not None and not torch.equal(picture(model, work), reference):
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
def try_threads(seed: int, share: float) -> Tried:
    """Four threads on one model: two under interventions, one with redirected gradients; each as it is alone."""
    model, count, together = make_model(), max(1, round(25 * share)), threading.Barrier(4, timeout=60)
    interventions = [partial(fv.clamp, model, "se", 0.3), partial(fv.scale, model, "se", 2.0)]
    contexts = [nullcontext, *interventions, partial(fv.redirected, model)]

    def work(thread: int, alone: bool) -> list[fv.Rendering]:
        made = list[fv.Rendering]()
        for i in range(count):
            if not alone:
                together.wait()
            with contexts[thread]():
                options: dict[str, Any] = RENDER | {"steps": 6, "seed": seed + i}
                made.append(fv.render(model, f"conv:{(i + thread) % 8}", **options))
        return made

    def compare(thread: int, expected: list[fv.Rendering]) -> None:
        pairs = zip(futures[thread].result(), expected, strict=True)
        wrong = [i for i, (a, b) in enumerate(pairs) if not torch.equal(a.images, b.images)]
        if wrong:
            raise Mismatch(f"renders {wrong} differ from those alone")

    expected = [work(thread, True) for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work, thread, False) for thread in range(4)]
    cases = [Case(f"thread {t}", partial(compare, t, expected[t])) for t in range(4)]
    return 4 * count, [failure for case in cases if (failure := attempt(case))]


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
    warnings.simplefilter("ignore")
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
