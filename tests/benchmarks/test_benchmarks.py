"""The parts of the benchmarks: arithmetic, order, schema, tables, comparison, suites. Nothing is timed."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.contenders.base import Task
from benchmarks.harness import record, schema
from benchmarks.harness.options import describe_task
from benchmarks.harness.rounds import Spread, compute_ratios, interleave, make_group, rotate_orders
from benchmarks.harness.tables import format_caption, format_number
from benchmarks.harness.workload import LAYERS, WIDTHS, select_units
from benchmarks.report import compare, pages
from benchmarks.suites import SUITES, load_suite, memory, peers, read_title, time_to_activation


def test_spread_and_ratios() -> None:
    assert Spread.from_values([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.from_values([7.0]) == Spread(7.0, 7.0, 7.0)
    assert Spread.from_values([1.0, None, 2.0]) == Spread(2.0, 1.5, math.inf)
    assert compute_ratios([2.0, None, 3.0, None], [4.0, 1.0, None, None]) == [0.5, math.inf, 0.0, 1.0]


def test_ratios_are_of_paired_rounds() -> None:
    """A machine that slows down slows both sides: the ratio within a round stays, the ratio of medians does not."""
    group = make_group({"a": [1.0, 10.0, 2.0], "b": [3.0, 30.0, 6.0], "c": "why not"}, "ms", baseline="a")
    assert group["rows"]["b"]["ratio"] == {"median": 3.0, "quartiles": [3.0, 3.0]}
    assert group["rows"]["a"]["ratio"]["median"] == 1.0
    assert group["rows"]["c"] == {"unsupported": "why not"}
    never = make_group({"a": [1.0, 2.0, 4.0], "b": [None, None, 1.0]}, "s", baseline="a")["rows"]["b"]
    assert never["rounds"] == [None, None, 1.0]
    assert never["median"] is None
    assert json.loads(json.dumps(never, allow_nan=False))["ratio"]["median"] is None


def test_a_missing_baseline_leaves_no_ratios() -> None:
    assert "ratio" not in make_group({"a": "absent", "b": [1.0]}, "ms", baseline="a")["rows"]["b"]


def test_rounds_are_interleaved_and_rotate() -> None:
    assert rotate_orders(["a", "b", "c"], 4) == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert rotate_orders([], 3) == []
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    times = interleave({name: lambda name=name: measure(name) for name in "ab"}, 3)
    assert "".join(calls) == "abbaab"
    assert times == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def make_result() -> dict[str, Any]:
    """A small result of the suite ``peers``."""
    rounds = {"featureviz": [10.0, 11.0, 12.0], "lucent": [100.0, 121.0, 108.0], "horama": "no module\nnamed horama"}
    group = make_group(
        rounds, "ms per image-step", baseline="featureviz", task=describe_task(Task(weights="/some/where/w.st"))
    )
    group["facts"] = {"lucent": "the whole network"}
    versions = {"featureviz": "0.1", "torch": "2.15", "torchvision": "0.29", "python": "3.11"}
    return {
        "measured": {
            "date": "2026-01-01", "commit": "abc", "device": "cpu", "machine": record.describe_machine(1),
            "versions": versions,
        },
        "schema": schema.VERSION, "suite": "peers", "settings": {"quick": False, "rounds": 3},
        "groups": {"features.13, 8 units": group},
    }  # fmt: skip


def test_a_written_result_follows_the_schema(tmp_path: Path) -> None:
    result = make_result()
    assert schema.find_problems(result) == []
    measured = result.pop("measured")
    path = record.write_result(
        "peers", result, out=tmp_path / "new", measured={k: measured[k] for k in ("machine", "device")}
    )
    assert schema.is_suite(path)
    assert schema.find_problems(json.loads(path.read_text())) == []
    assert '"rounds": [ 10.0, 11.0, 12.0 ]' in path.read_text()
    assert "/some/where" not in path.read_text()


BREAKS: list[tuple[str, Any, str]] = [
    ("schema", 99, "schema: 99, expected 1"),
    ("suite", None, "result.suite: missing"),
    ("groups", {}, "groups: empty"),
    ("extra", 1, "result.extra: not in the schema"),
    ("settings.quick", "yes", "result.settings.quick: 'yes', expected bool"),
    ("settings.rounds", True, "result.settings.rounds: True, expected int"),
    ("measured.machine", "x86", "result.measured.machine: str, expected an object"),
    ("measured.machine.load before", [None, "high"], "expected list of numbers"),
    ("measured.versions.torch", None, "result.measured.versions.torch: missing"),
    ("groups.g.unit", None, "groups['g'].unit: missing"),
    ("groups.g.baseline", "nobody", "groups['g'].baseline: no such row"),
    ("groups.g.rows.lucent.rounds", [], "groups['g'].rows['lucent'].rounds: empty"),
    ("groups.g.rows.lucent.quartiles", [1.0], "groups['g'].rows['lucent'].quartiles: 1 numbers, expected 2"),
    ("groups.g.rows.lucent.ratio.median", "3x", "groups['g'].rows['lucent'].ratio.median: '3x', expected"),
    ("groups.g.rows.horama", {"unsupported": 3}, "groups['g'].rows['horama'].unsupported: 3, expected str"),
]


@pytest.mark.parametrize(("path", "value", "message"), BREAKS, ids=[b[0] for b in BREAKS])
def test_the_schema_refuses(path: str, value: Any, message: str) -> None:
    """``None`` removes the field."""
    result = make_result()
    result["groups"] = {"g": next(iter(result["groups"].values()))}
    *parents, last = [part.replace("_", " ") for part in path.split(".")]
    place = result
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert any(message in line for line in schema.find_problems(result)), schema.find_problems(result)


def test_the_schema_refuses_other_objects() -> None:
    assert schema.find_problems([]) == ["result: list, expected an object"]
    result = make_result()
    result["groups"]["g"] = 5
    assert "groups['g']: int, expected an object" in schema.find_problems(result)


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_stored_results_are_valid(path: Path) -> None:
    if not schema.is_suite(path):
        return  # the result of a study
    stored = json.loads(path.read_text())
    assert schema.find_problems(stored) == []
    assert stored["suite"] == path.stem
    assert not stored["settings"]["quick"]
    assert load_suite(path.stem).make_table(stored)


def test_a_table_shows_figures_and_reasons() -> None:
    table = peers.make_table(make_result()).splitlines()
    assert table[2] == "| featureviz | 11.0 (10.5-11.5), 1.00x |"
    assert table[3] == "| lucent | 108 (104-114), 10.0x |"
    assert table[4] == "| horama | no module |"
    assert table[-1] == "- lucent: the whole network"
    assert "2026-01-01, commit abc, torch 2.15; medians of 3 rounds" in format_caption(make_result())
    assert [format_number(v) for v in (0.0, 99.94, 2345.6)] == ["0.00", "99.9", "2,346"]


def test_the_blocks_of_a_page_are_filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    page = "<!-- peers -->\nold\n<!-- end -->"
    assert pages.fill_tables(page) == page  # nothing measured yet
    (tmp_path / "peers.json").write_text(json.dumps(make_result()))
    assert "| lucent | 108" in pages.fill_tables(page)
    assert pages.fill_tables(pages.fill_tables(page)) == pages.fill_tables(page)


def test_compare_marks_changes_beyond_the_spread() -> None:
    old, new = make_result(), make_result()
    groups = {"featureviz": [8.0, 8.1, 8.2], "lucent": [101.0, 120.0, 109.0], "dreamlens": [5.0, 5.0, 5.0]}
    new["groups"]["features.13, 8 units"] = make_group(groups, "ms per image-step", baseline="featureviz")
    new["measured"]["machine"] = {**new["measured"]["machine"], "threads": 64}
    text = compare.compare_results(old, new)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert lines["featureviz"].endswith("0.736x  faster")
    assert lines["lucent"].endswith("1.009x")
    assert lines["dreamlens"].endswith("is new")
    assert lines["horama"].endswith("is gone")
    assert "CAUTION: threads was 1, is 64" in text
    slow = {"quartiles": [3.0, None]}
    assert compare.judge_change({"quartiles": [1.0, 2.0]}, slow) == "slower"
    assert compare.judge_change(slow, {"quartiles": [1.0, 2.0]}) == "faster"
    assert compare.judge_change(slow, {"quartiles": [2.0, 3.5]}) == ""
    with pytest.raises(ValueError, match="peers and step are different suites"):
        compare.compare_results(old, {**new, "suite": "step"})


class FakeWorker:
    """A worker whose seconds are known beforehand."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def build(self, task: Task) -> dict[str, float]:
        return {"seconds": 2.0}

    def run_steps(self, count: int) -> float:
        return count * self.seconds


def make_run(seconds: float, scores: list[list[float]]) -> time_to_activation.TimedRun:
    timed = time_to_activation.TimedRun(FakeWorker(seconds), Task(units=(0, 1)))  # pyright: ignore[reportArgumentType]
    timed.scores, timed.turn_seconds = dict(enumerate(scores)), [4 * seconds for _ in scores]
    timed.first_step_excess = seconds
    return timed


def test_time_to_activation_counts_from_the_turn_that_reached_it() -> None:
    """Lucent ends at 6 and 8; featureviz reaches 6 in turn 2 and never reaches 8."""
    task = Task(units=(0, 1))
    runs = {
        "lucent": make_run(1.0, [[1.0, 1.0], [5.0, 9.0], [6.0, 8.0]]),
        "featureviz": make_run(0.25, [[2.0, 2.0], [7.0, 3.0], [9.0, 7.0]]),
    }
    groups = time_to_activation.compare_runs("features.6", runs, {"featureviz fast": "not there"}, task)
    cold, warm = groups.values()
    assert cold["rows"]["lucent"]["rounds"] == [7.0, 7.0]  # (2 + 3 * 4) / 2
    assert cold["rows"]["featureviz"]["rounds"] == [2.0, None]  # (2 + 2 * 1) / 2
    assert warm["rows"]["lucent"]["rounds"] == [5.5, 5.5]
    assert warm["rows"]["featureviz"]["rounds"] == [0.875, None]
    assert cold["facts"]["featureviz"]["step reached"] == [8, None]
    table = time_to_activation.make_table({"groups": groups})
    assert "| features.6 | featureviz | never" in table
    assert "| 1 of 2 | 1.19, 0.875 |" in table  # the ratios are 9 / 6 and 7 / 8
    assert "| features.6 | featureviz fast | not there |" in table


def test_the_excess_of_the_first_step_is_separate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_to_activation, "score_images", lambda model, task, worker: [0.0, 0.0])
    timed = time_to_activation.TimedRun(FakeWorker(0.5), Task(units=(0, 1)))  # pyright: ignore[reportArgumentType]
    timed.worker.run_steps = lambda count: 9.0 if count == 1 else 0.5 * count  # the first step is slow
    timed.take_turn(None)  # pyright: ignore[reportArgumentType]
    timed.take_turn(None)  # pyright: ignore[reportArgumentType]
    assert timed.turn_seconds == [10.5, 2.0]
    assert timed.sum_seconds(1) == {time_to_activation.COLD: (2 + 12.5) / 2, time_to_activation.WARM: 8 * 0.5 / 2}


def test_memory_s_slope_and_the_workload_s_units() -> None:
    assert memory.fit_slope([1, 4, 16], [103.0, 112.0, 148.0]) == pytest.approx(3.0)
    assert select_units("features.6", 64)[38:42] == (38, 39, 0, 1)
    net = Task(weights="").network()
    x = torch.zeros(1, 3, 32, 32)
    for i, stage in enumerate(net.get_submodule("features").children()):
        x = stage(x)
        if f"features.{i}" in WIDTHS:
            assert x.shape[1] == WIDTHS[f"features.{i}"]
    assert set(LAYERS) == set(WIDTHS)


def test_every_suite_is_listed_and_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    output = capsys.readouterr().out
    for name in SUITES:
        assert f"{name} " in output
        assert read_title(name) in output
        assert command.build_parser().parse_args(["run", name, "--quick"]).suites == [name]
        assert name in pages.TABLES
    with pytest.raises(ValueError, match="no suite is called 'speed'"):
        load_suite("speed")
    contract = (pages.ROOT / "benchmarks" / "README.md").read_text()
    assert all(f"<!-- {name} -->" in contract for name in SUITES)


def test_compare_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.json").write_text(json.dumps(make_result()))
    assert command.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    assert "1.000x" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="the suite would run")
def test_the_gpu_suite_is_skipped_with_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["run", "gpu", "--quick", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "gpu: skipped, no CUDA device\n"
    assert list(tmp_path.iterdir()) == []


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.report import plots

    (tmp_path / "peers.json").write_text(json.dumps(make_result()))
    lucent, featureviz = make_run(1.0, [[1.0, 1.0], [6.0, 8.0]]), make_run(0.25, [[2.0, 2.0], [7.0, 9.0]])
    groups = time_to_activation.compare_runs(
        "features.6", {"lucent": lucent, "featureviz": featureviz}, {}, Task(units=(0, 1))
    )
    stored = copy.deepcopy(make_result()) | {"suite": "time_to_activation", "groups": groups}
    assert schema.find_problems(stored) == []
    (tmp_path / "time_to_activation.json").write_text(json.dumps(stored))
    plain = ["bench_peers.png", "bench_time_to_activation.png"]
    assert [file.name for file in plots.draw_plots(tmp_path, tmp_path, tmp_path / "none")] == plain
    for side in ("lucent", "featureviz"):
        torch.save(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), tmp_path / f"features.6 {side}.pt")
    files = plots.draw_plots(tmp_path, tmp_path, tmp_path)
    assert [file.name for file in files] == [*plain, "bench_pictures.jpg"]
    starts = [b"\x89PNG", b"\x89PNG", b"\xff\xd8\xff"]
    assert all(file.read_bytes().startswith(start) for file, start in zip(files, starts, strict=True))
    kept = [f"bench_{name}.png" for name in plots.PLOTS if (record.RESULTS / f"{name}.json").is_file()]
    assert [file.name for file in plots.draw_plots(record.RESULTS, tmp_path, tmp_path / "none")] == kept
