"""Lists the suites, runs them, compares two results, draws plots and fills tables: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import compare, plots, readme, record, schema
from benchmarks.contenders import DISTRIBUTIONS
from benchmarks.options import Options, Skipped
from benchmarks.suites import SUITES, suite, title
from benchmarks.tables import caption


def listed() -> str:
    """The suites with what they measure, and what there is of them."""
    lines = []
    for name in SUITES:
        path = record.RESULTS / f"{name}.json"
        when = json.loads(path.read_text())["measured"]["date"] if path.is_file() else "no result"
        lines.append(f"{name:20} {when:12} {title(name)}")
    return "\n".join(lines)


def ran(name: str, options: Options, out: Path) -> Path:
    """Measure a suite and write its result."""
    before = record.machine(options.threads)
    module = suite(name)
    made: dict[str, Any] = module.run(options)
    device = record.device("cuda" if name == "gpu" else options.device)
    versions = record.versions_in(options.peers, DISTRIBUTIONS)
    result = {"schema": schema.VERSION, "suite": name, **made}
    result["settings"] = {"quick": options.quick, **made["settings"]}
    path = record.write(
        name, result, out=out, measured={"machine": before, "device": device, "versions": versions}
    )  # fmt: skip
    written = json.loads(path.read_text())
    if wrong := schema.problems(written):
        raise ValueError(f"{path} is not as benchmarks/schema.py says:\n" + "\n".join(wrong))
    print(f"\n{name}. {caption(written)}\n\n{module.table(written)}\n\n{path}", flush=True)
    return path


def run(args: argparse.Namespace) -> int:
    options = Options(args.quick, args.peers, args.weights, args.device, args.threads)
    out = args.out or (Path("out/benchmarks") if args.quick else record.RESULTS)
    for name in args.suites:
        try:
            ran(name, options, out)
        except Skipped as reason:
            print(f"{name}: skipped, {reason}", flush=True)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = top.add_subparsers(dest="command")
    one = commands.add_parser("run", help="measure suites and write their results")
    one.add_argument("suites", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    one.add_argument("--quick", action="store_true", help="a minute each: shows that it runs; its figures mean nothing")
    peers = os.environ.get("FEATUREVIZ_PEERS")
    one.add_argument("--peers", type=Path, default=Path(peers) if peers else None, help="from setup_peers.py")
    one.add_argument("--weights", default="", help="a dilated MobileNetV3-Large; FEATUREVIZ_REAL_WEIGHTS, or random")
    one.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    one.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    one.add_argument("--out", type=Path, help="folder; benchmarks/results, out/benchmarks when quick")
    two = commands.add_parser("compare", help="ratios of two results of a suite, changes beyond the spread marked")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    for name, told in (("plots", "draw PNGs"), ("tables", "fill the tables of README and docs")):
        commands.add_parser(name, help=f"{told} from benchmarks/results")
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.command == "run":
        return run(args)
    if args.command == "compare":
        print(compare.told(*(json.loads(path.read_text()) for path in (args.old, args.new))))
    elif args.command == "plots":
        for path in plots.drawn(record.RESULTS, readme.ROOT / "docs"):
            print(path)
    elif args.command == "tables":
        readme.fill()
    else:
        print(listed())
    return 0


if __name__ == "__main__":
    sys.exit(main())
