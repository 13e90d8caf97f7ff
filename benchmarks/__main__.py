"""Lists the suites, runs them, compares two results, draws plots and fills tables: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.contenders import DISTRIBUTIONS
from benchmarks.harness import record, schema
from benchmarks.harness.options import Options, Skipped
from benchmarks.harness.tables import format_caption
from benchmarks.report import pages, plots
from benchmarks.report.compare import compare_results
from benchmarks.suites import SUITES, load_suite, read_title


def list_suites() -> str:
    """One line a suite: name, date of its stored result, what it measures."""
    lines = []
    for name in SUITES:
        path = record.RESULTS / f"{name}.json"
        date = json.loads(path.read_text())["measured"]["date"] if path.is_file() else "no result"
        lines.append(f"{name:20} {date:12} {read_title(name)}")
    return "\n".join(lines)


def run_suite(name: str, options: Options, out: Path) -> Path:
    """Measure a suite, write its result, check and print it."""
    machine = record.describe_machine(options.threads)
    suite = load_suite(name)
    measurements: dict[str, Any] = suite.run(options)
    device = record.describe_device("cuda" if name == "gpu" else options.device)
    versions = record.read_versions(options.peers, DISTRIBUTIONS)
    result = {"schema": schema.VERSION, "suite": name, **measurements}
    result["settings"] = {"quick": options.quick, **measurements["settings"]}
    path = record.write_result(
        name, result, out=out, measured={"machine": machine, "device": device, "versions": versions}
    )  # fmt: skip
    written = json.loads(path.read_text())
    if problems := schema.find_problems(written):
        raise ValueError(f"{path} does not follow benchmarks/harness/schema.py:\n" + "\n".join(problems))
    print(f"\n{name}. {format_caption(written)}\n\n{suite.make_table(written)}\n\n{path}", flush=True)
    return path


def run_suites(args: argparse.Namespace) -> int:
    options = Options(args.quick, args.peers, args.weights, args.device, args.threads)
    out = args.out or (Path("out/benchmarks") if args.quick else record.RESULTS)
    for name in args.suites:
        try:
            run_suite(name, options, out)
        except Skipped as reason:
            print(f"{name}: skipped, {reason}", flush=True)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="measure suites and write their results")
    run.add_argument("suites", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    run.add_argument("--quick", action="store_true", help="about a minute each: only shows that it runs")
    peers = os.environ.get("FEATUREVIZ_PEERS")
    run.add_argument("--peers", type=Path, default=Path(peers) if peers else None, help="folder of setup_peers")
    run.add_argument(
        "--weights", default="",
        help="of a dilated MobileNetV3-Large (default: FEATUREVIZ_REAL_WEIGHTS, else random weights)",
    )  # fmt: skip
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    run.add_argument("--out", type=Path, help="folder (default: benchmarks/results; out/benchmarks if quick)")
    compare = commands.add_parser("compare", help="ratios of two results of a suite; marks changes beyond the spread")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    commands.add_parser("plots", help="draw PNGs from benchmarks/results")
    commands.add_parser("tables", help="fill the tables of README and docs from benchmarks/results")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.command == "run":
        return run_suites(args)
    if args.command == "compare":
        print(compare_results(*(json.loads(path.read_text()) for path in (args.old, args.new))))
    elif args.command == "plots":
        for path in plots.draw_plots(record.RESULTS, pages.ROOT / "docs"):
            print(path)
    elif args.command == "tables":
        pages.fill_pages()
    else:
        print(list_suites())
    return 0


if __name__ == "__main__":
    sys.exit(main())
