"""Gate cards: their figures against direct evaluation, their pages, and what is left when something goes wrong."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.cli import main
from featureviz.errors import InvalidInput
from featureviz.gallery.cards.entry import choose_gates, gate_cards
from featureviz.gallery.site.plot_axis import PlotAxis
from featureviz.lab import GateStatistics, Pictures
from featureviz.lab.gates.natural_range import BEYOND, PAST, SHORT, GateResponse, Reach
from featureviz.network.in_force import interventions_on
from featureviz.objectives.gate_leaves import PreGate
from featureviz.rendering.png import to_pixels
from tests.conftest import TinySE

UNITS, STEPS, SIZE = (6, 1), 6, 24
BLOCK = "features.1.block.2"


def write_pictures(folder: Path, count: int = 12, seed: int = 0) -> Path:
    """Ramps and noise of different colours and contrast, and one file that is no picture."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, 40)[None, :, None]
    for i in range(count):
        colour = rng.uniform(0, 1, 3)
        array = np.clip(colour * (0.3 + 0.7 * ramp) + rng.normal(0, 0.02 + 0.03 * (i % 4), (40, 40, 3)), 0, 1)
        iio.imwrite(folder / f"{i:02d}.png", (255 * array).astype(np.uint8))
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("natural") / "pictures")


@pytest.fixture(scope="module")
def tiny_model() -> fv.TappedModel:
    torch.manual_seed(0)
    return fv.wrap(TinySE(), mean=0.5, std=0.25, size=SIZE, labels=["ant", "bee", "cat", "dog", "eel"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_model: fv.TappedModel) -> Path:
    out = tmp_path_factory.mktemp("made") / "gates"
    page = gate_cards(tiny_model, pictures, out, units=UNITS, steps=STEPS, size=SIZE, progress=False)
    assert page == out / "index.html"
    return out


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Of the embedded network on the folder's pictures."""
    path = tmp_path_factory.mktemp("statistics") / "natural.pt"
    GateStatistics.measure(fv.load("embedded"), pictures).save(path)
    return path


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def read_words(page: Path) -> str:
    """The text of a page, with one space between words."""
    return " ".join(unescape(page.read_text()).split())


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(iio.imread(path)).movedim(-1, 0) / 255


def natural_of(model: fv.TappedModel, pictures: Path) -> tuple[GateStatistics, torch.Tensor]:
    (batch,) = Pictures(pictures, SIZE)
    return GateStatistics.measure(model, pictures), batch.images


def test_the_renders_stand_where_direct_evaluation_puts_them(
    made: Path, pictures: Path, tiny_model: fv.TappedModel
) -> None:
    natural, _ = natural_of(tiny_model, pictures)
    report = report_of(made)
    assert [e["channel"] for e in report["gates"]] == list(UNITS)
    rows = [(e["channel"], kind, r) for e in report["gates"] for kind, r in e["renders"].items()]
    assert [kind for _, kind, _ in rows[:6]] == [
        "excited",
        "suppressed",
        "high-open",
        "high-shut",
        "low-open",
        "low-shut",
    ]
    images = torch.stack([picture(made / r["file"]) for *_, r in rows])
    units = [unit for unit, *_ in rows]
    gates = fv.evaluate(tiny_model, fv.Gate("se", units), images)
    contents = fv.evaluate(tiny_model, PreGate("se", units), images)
    for i, (unit, _, r) in enumerate(rows):
        spec = f"gate:se:{unit}"
        logit, content = gates.logits[i][spec].mean(), contents.scores[:, i].mean()
        slack = 0.02 * float(natural["se"].logit_sd[unit])  # of 8 bits a colour
        assert r["logit"] == pytest.approx(float(logit), abs=slack)
        assert r["value"] == pytest.approx(float(gates.gates[i][spec].mean()), abs=slack)
        assert r["content"] == pytest.approx(float(content), abs=0.02 * float(natural["se"].squeeze_sd[unit]))
        exact = torch.tensor([r["logit"]])
        assert r["percentile"] == pytest.approx(float(natural.percentile("se", unit, exact)), abs=0.05)
        content = natural.percentile("se", unit, torch.tensor([r["content"]]), of="squeeze")
        assert r["content percentile"] == pytest.approx(float(content), abs=0.05)
        recipe = fv.read_recipe(made / r["file"])
        assert (recipe["steps"], recipe["image_ids"], recipe["model"]) == (STEPS, [0], "TinySE")


def test_a_tile_is_the_render_of_its_spec_alone(made: Path, tiny_model: fv.TappedModel) -> None:
    for sign, kind in (("", "excited"), ("-", "suppressed")):
        entry = report_of(made)["gates"][1]
        alone = fv.render(tiny_model, f"{sign}gate:se:1", steps=STEPS, size=SIZE, image_ids=[0], progress=False)
        tile = iio.imread(made / entry["renders"][kind]["file"])
        assert np.abs(tile.astype(int) - to_pixels(alone.images[0]).astype(int)).max() <= 1


def test_the_natural_figures_are_those_of_the_folder(made: Path, pictures: Path, tiny_model: fv.TappedModel) -> None:
    _, images = natural_of(tiny_model, pictures)
    taken = tiny_model(images, ["gate:se", "gate value:se"])
    for e in report_of(made)["gates"]:
        unit, n = e["channel"], e["natural"]
        z, g = taken["gate:se"][:, unit], taken["gate value:se"][:, unit]
        assert (n["images"], sum(n["histogram"]["counts"])) == (12, 12)
        assert n["value mean"] == pytest.approx(float(g.mean()), abs=1e-4)
        assert n["logit sd"] == pytest.approx(float(z.std()), abs=1e-4)
        assert n["histogram"]["start"] <= float(z.min())
        assert float(z.max()) <= n["histogram"]["start"] + n["histogram"]["width"] * len(n["histogram"]["counts"])
        for side, order in (("least", z.argsort()), ("most", z.argsort(descending=True))):
            assert [p["image"] for p in e[side]] == order[:6].tolist()  # half of the twelve
            for p in e[side]:
                assert p["logit"] == pytest.approx(float(z[p["image"]]), abs=1e-4)
                assert p["name"] == f"{p['image']:02d}.png"
                assert torch.allclose(picture(made / p["file"]), images[p["image"]], atol=1 / 255)
        for z_tick, value in e["axis"]["ticks"]:
            assert value == pytest.approx(min(max(z_tick / 6 + 0.5, 0), 1), abs=1e-4)  # hard-sigmoid


def test_the_drivers_are_the_largest_entries_of_the_effective_path(
    made: Path, pictures: Path, tiny_model: fv.TappedModel
) -> None:
    natural, _ = natural_of(tiny_model, pictures)
    s, se = natural["se"], tiny_model.net.get_submodule("se")
    w1, w2 = se.fc1.weight.flatten(1), se.fc2.weight.flatten(1)  # type: ignore[union-attr]
    awake = (w1 @ s.squeeze_mean + se.fc1.bias > 0).float()  # type: ignore[union-attr]
    strength = (w2 * awake) @ w1 * s.squeeze_sd
    for e in report_of(made)["gates"]:
        own = strength[e["channel"]]
        opens = [(int(c), float(own[c])) for c in own.argsort(descending=True)[:4] if own[c] > 0]
        closes = [(int(c), float(own[c])) for c in own.argsort()[:4] if own[c] < 0]
        for key, wanted in (("opens", opens), ("closes", closes)):
            assert [d["channel"] for d in e[key]] == [c for c, _ in wanted]
            assert [d["strength"] for d in e[key]] == pytest.approx([v for _, v in wanted], abs=1e-4)
            for d in e[key]:
                assert fv.read_recipe(made / d["file"])["spec"] == f"pregate:se:{d['channel']}"
                assert 0 <= d["gate"]["value"] <= 1


def test_holding_is_the_network_with_that_gate_replaced(made: Path, pictures: Path, tiny_model: fv.TappedModel) -> None:
    natural, images = natural_of(tiny_model, pictures)
    net: Any = tiny_model.net

    def output(unit: int, value: float | None) -> torch.Tensor:
        x = net.stem((images - 0.5) / 0.25)
        gates = net.se._scale(x)
        if value is not None:
            gates[:, unit] = value
        return net.head((net.conv(x * gates) + x).mean((2, 3)))

    for e in report_of(made)["gates"]:
        unit = e["channel"]
        values = {"mean": float(natural["se"].value_mean[unit]), "one": 1.0, "zero": 0.0}
        for way, value in values.items():
            a, b = output(unit, None), output(unit, value)
            held = e["ablations"][way]
            assert (held["count"], held["value"]) == (12, pytest.approx(value, abs=1e-4))
            assert held["change"] == pytest.approx(float(((a - b).norm(dim=1) / a.norm(dim=1)).mean()), abs=2e-5)
            kl = nn.functional.kl_div(b.log_softmax(1), a.log_softmax(1), reduction="batchmean", log_target=True)
            assert held["divergence"] == pytest.approx(float(kl), abs=2e-5)
            assert held["flipped"] == pytest.approx(float((a.argmax(1) != b.argmax(1)).float().mean()), abs=1e-5)
    assert not interventions_on(tiny_model.key)


def test_the_pages_open_from_disk_and_say_what_the_report_says(made: Path) -> None:
    report = report_of(made)
    pages = [made / "index.html", *(made / e["page"] for e in report["gates"])]
    for page in pages:
        text = page.read_text()
        assert not re.search(r"https?:|//cdn|<script|url\((?!#)|@import", text)
        links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', text) if not link.startswith("data:")]
        assert all((page.parent / link).is_file() for link in links), links
        assert len(re.findall("<svg", text)) == len(re.findall("</svg>", text))
    index = read_words(pages[0])
    assert "1 file could not be read and was left out: broken.jpg" in index
    assert [s["file"] for s in report["skipped"]] == ["broken.jpg"]
    for e, page in zip(report["gates"], pages[1:], strict=True):
        text = read_words(page)
        assert f'href="{e["page"]}"' in index
        assert f"{e['natural']['value mean']:.2f} ± {e['natural']['value sd']:.2f}" in text
        for kind in ("excited", "suppressed"):
            assert f"{kind} {e['renders'][kind]['value']:.2f}" in text
        for driver in (*e["opens"], *e["closes"]):
            assert f"channel {driver['channel']}" in text
        assert text.count("reached") >= 4
        for held in e["ablations"].values():
            assert f"<td>{100 * held['change']:.2f} %</td>" in text


def test_a_block_that_does_not_read_means_alone_still_has_a_card(tmp_path: Path, pictures: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), fv.nn.CBAM(8, reduction=2), nn.Conv2d(8, 4, 1))
    model = fv.wrap(net, mean=0.5, std=0.25, size=SIZE)
    site = next(iter(model.gates.channelwise))
    gate_cards(model, pictures, tmp_path, sites=[site], units=[3], steps=2, size=SIZE, progress=False)
    (e,) = report_of(tmp_path)["gates"]
    assert e["reach"]["up"]["bound"] is None
    assert e["opens"] == e["closes"] == []
    assert e["missing"] in read_words(tmp_path / e["page"])
    assert e["ablations"]["zero"]["flipped"] is None  # a map is no class score
    spatial = next(name for name, s in model.gates.items() if s.spatial)
    with pytest.raises(InvalidInput, match="one value for each position; expected a block with channel gates"):
        gate_cards(model, pictures, tmp_path, sites=[spatial], progress=False)


def test_interrupted_runs_leave_finished_cards_and_their_index(
    tmp_path: Path,
    pictures: Path,
    statistics: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from featureviz.lab.gates import card

    calls = []

    def render(*args: Any, **options: Any) -> fv.Rendering:
        calls.append(args)
        made = fv.render(*args, **options)
        return replace(made, interrupted=len(calls) == 3)  # as Ctrl-C leaves it: the gates of the second block

    monkeypatch.setattr(card, "render", render)
    out = tmp_path / "out"
    options = ["--steps", "1", "--size", "32", "--statistics", str(statistics), "--out", str(out)]
    what = ["--site", BLOCK, "features.2.block.2", "--units", "5"]
    assert main(["gates", "embedded", "--cards", "--images", str(pictures), *what, *options]) == 130
    assert "interrupted" in capsys.readouterr().err
    report = report_of(out)
    assert [e["spec"] for e in report["gates"]] == [f"gate:{BLOCK}:5"]
    index = (out / "index.html").read_text()
    assert "1 of 2 gates are done" in index
    assert all((out / link).is_file() for link in re.findall(r'(?:src|href)="((?!data:)[^"]+)"', index))
    assert all((out / e["page"]).is_file() for e in report["gates"])


def test_statistics_are_kept_and_read_again(
    tmp_path: Path, pictures: Path, tiny_model: fv.TappedModel, made: Path
) -> None:
    file, options = tmp_path / "natural.pt", {"units": [1], "steps": STEPS, "size": SIZE, "progress": False}
    gate_cards(tiny_model, pictures, tmp_path / "a", statistics=file, **options)
    written = file.stat().st_mtime_ns
    gate_cards(tiny_model, pictures, tmp_path / "b", statistics=file, **options)
    assert file.stat().st_mtime_ns == written
    assert report_of(tmp_path / "a") == report_of(tmp_path / "b")
    assert report_of(tmp_path / "a")["gates"][0]["natural"] == report_of(made)["gates"][1]["natural"]
    others = write_pictures(tmp_path / "others", seed=5)
    with pytest.raises(InvalidInput, match="of another network or other pictures; measure again"):
        gate_cards(tiny_model, others, tmp_path / "c", statistics=file, **options)
    for path in others.iterdir():
        path.rename(path.with_stem(f"other-{path.stem}"))
    gate_cards(tiny_model, others, tmp_path / "c", statistics=file, **options)
    (e,) = report_of(tmp_path / "c")["gates"]
    assert e["most"] == e["least"] == []
    assert "are not at hand" in (tmp_path / "c" / e["page"]).read_text()
    with pytest.raises(InvalidInput, match="the statistics of 'se' are of 8 gates, the network's block has 12"):
        gate_cards(fv.wrap(TinySE(12), size=SIZE), pictures, tmp_path / "d", statistics=file, **options)
    GateStatistics.load(file).save(tmp_path / "small.pt", compact=True)
    with pytest.raises(InvalidInput, match="a compact file leaves it out"):
        gate_cards(tiny_model, pictures, tmp_path / "d", statistics=tmp_path / "small.pt", **options)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embedded", "--cards"], "give a folder of them with --images DIR"),
        (["embedded", "--images", "{pictures}"], "add --cards"),
        (["embedded", "--cards", "--images", "{empty}"], "no pictures under"),
        (["embedded", "--cards", "--images", "{empty}/none"], "there is no folder"),
        (["embedded", "--cards", "--images", "{broken}"], "none of 1 files could be read as a picture"),
        (
            ["embedded", "--cards", "--images", "{pictures}", "--site", "features.1.block"],
            "nearest: 'features.1.block.2'",
        ),
        (["embedded", "--cards", "--images", "{pictures}", "--site", BLOCK, "--units", "48"], "it has 48: 0 to 47"),
        (["embedded", "--cards", "--images", "{pictures}", "--out", "{pictures}/00.png"], "is a file; give another"),
        (
            ["torchvision:resnet18", "--weights", "none", "--cards", "--images", "{pictures}"],
            "no squeeze-and-excitation",
        ),
        (
            ["embedded", "--cards", "--images", "{pictures}", "--statistics", "{pictures}/00.png"],
            "holds no gate statistics",
        ),
        (
            ["embedded", "--cards", "--images", "{pictures}", "--layer", "feature.3", "--statistics", "{statistics}"],
            "nearest: 'features.3'",
        ),
        (["embedded", "--cards", "--images", "{pictures}", "--device", "nonsense"], "cannot be used"),
        (["embedded", "--cards", "--images", "{pictures}", "--weights", "{nan}"], "check it for NaN weights"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    pictures: Path,
    statistics: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"pictures": pictures, "statistics": statistics}
    for name in ("empty", "broken"):
        places[name] = tmp_path / name
        places[name].mkdir()
    (tmp_path / "broken/one.png").write_bytes(b"")
    places["nan"] = tmp_path / "nan.pt"
    state = fv.load("embedded").net.state_dict()
    state["features.0.0.weight"] = state["features.0.0.weight"] * float("nan")
    torch.save(state, places["nan"])
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    assert main(["gates", *(a.format(**places) for a in arguments), *out, "--steps", "1", "--size", "32"]) == 2
    shown = capsys.readouterr()
    (line,) = [text for text in shown.err.splitlines() if text.startswith("featureviz: ")]
    assert message in line
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_gates_are_chosen_from_the_deepest_block_on(statistics: Path) -> None:
    natural = GateStatistics.load(statistics)
    chosen = choose_gates(["features.3.block.2", "features.9.block.2"], natural, 3)
    assert {site: len(units) for site, units in chosen.items()} == {"features.3.block.2": 1, "features.9.block.2": 2}
    assert chosen["features.3.block.2"] == [int(natural["features.3.block.2"].value_sd.argmax())]


def test_when_a_corner_is_reached_and_a_bound_passed() -> None:
    there = GateResponse(logit=1, value=1, content=1, percentile=95, content_percentile=50)
    assert there.reached("high", "open") == (False, True)
    assert there.reached("low", "shut") == (False, False)
    verdicts = [Reach(True, logit, picture=2, bound=5).verdict for logit in (1, 3, 6)]
    assert verdicts == [SHORT, BEYOND, PAST]
    assert [Reach(False, -logit, picture=-2, bound=-5).verdict for logit in (1, 3, 6)] == verdicts
    assert Reach(True, 6, picture=2).verdict == BEYOND


def test_an_axis_keeps_the_natural_range_wide_and_draws_the_rest_at_its_edge() -> None:
    axis = PlotAxis.around((-2.0, 2.0), [3.0, 500.0])
    assert axis.percent(-2.0) < axis.percent(2.0)
    assert axis.percent(2.0) - axis.percent(-2.0) > 40
    assert (axis.percent(500.0), axis.beyond(500.0), axis.beyond(3.0)) == (100.0, 1, 0)
    for ends in ((0.0, 1e-6), (-3e4, 1e5), (5.0, 5.0)):
        found = PlotAxis.around(ends, [0.0])
        assert all(found.low <= t <= found.high for t in found.ticks())
        assert 1 <= len(found.ticks()) <= 8
