"""The scripts of the lab: their verdicts, reports, pictures and error messages; and renders of modes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import imageio.v3 as iio
import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.lab import GateStatistics, modes, save_picture
from featureviz.lab.gates import reachability_study as study
from featureviz.lab.gates.co_gating_modes import Along
from featureviz.lab.statistics.co_gating import order_by_correlation
from featureviz.network.activations import Activations, Rows

SITE, DEEP = "features.2.block.2", "features.7.block.2"
Run = Callable[..., int]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module


@pytest.fixture
def run(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Run:
    def called(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return script(name).main()

    return called


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of noise with different colours and grains."""
    folder = tmp_path_factory.mktemp("crops")
    generator = torch.Generator().manual_seed(0)
    for i in range(12):
        colour, grain = torch.rand(3, 1, 1, generator=generator), torch.rand(3, 64, 64, generator=generator)
        save_picture(0.6 * colour + 0.4 * grain * i / 12, folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def statistics(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "gates.pt"
    GateStatistics.measure(fv.load("embedded", size=64), str(crops)).save(path)
    return path


# ------------------------------------------------------------------------------------------------------ objectives
def logits(z: torch.Tensor) -> Activations:
    return Activations({"gate:se": z}, Rows.make(len(z)))


def test_along_is_the_projection_from_the_mean_times_the_cosine_s_power() -> None:
    mean, vector = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 0.0, 4.0])
    unit = vector / 5
    on, off = 2.5 * unit, torch.tensor([0.0, 7.0, 0.0])
    plain, kept = (Along("se", vector, mean, 0.5, power) for power in (0, 4))
    z = logits(torch.stack([mean + on, mean + on + off, mean - on, mean]))
    cosine = 2.5 / (2.5**2 + 7**2) ** 0.5
    assert torch.allclose(plain(z), torch.tensor([5.0, 5.0, -5.0, 0.0]), atol=1e-5)
    assert torch.allclose(kept.cosine(z), torch.tensor([1.0, cosine, -1.0, 0.0]), atol=1e-5)
    assert torch.allclose(kept(z), torch.tensor([5.0, 5 * cosine**4, -5 * 0.3**4, 0.0]), atol=1e-5)


def test_along_has_a_slope_on_the_wrong_side_and_at_the_mean() -> None:
    objective = Along("se", torch.tensor([1.0, 0.0]), torch.zeros(2), 1.0, power=4)
    z = torch.tensor([[-3.0, 1.0], [0.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(objective(logits(z)).sum(), z)
    assert (slope[:, 0] > 0).all()
    assert slope.isfinite().all()


@pytest.mark.parametrize(
    ("vector", "sd", "power"), [(torch.zeros(2), 1.0, 0.0), (torch.ones(3), 1.0, 0.0), (torch.ones(2), 0.0, 0.0),
                                (torch.ones(2), 1.0, -1.0)]
)  # fmt: skip
def test_along_refuses_wrong_directions(vector: torch.Tensor, sd: float, power: float) -> None:
    with pytest.raises(InvalidInput, match=r"expected both|power=-1"):
        Along("se", vector, torch.zeros(2), sd, power)


def test_modes_are_measured_from_the_natural_mean(statistics: Path) -> None:
    natural = GateStatistics.load(statistics)
    found = modes(natural, DEEP, 3)
    sample = natural[DEEP].logit_sample
    assert torch.allclose(found.amounts(sample).std(0), torch.ones(3), rtol=1e-3)
    assert torch.allclose(found.cosines(found.mean + 3 * found.vectors), torch.eye(3), atol=1e-4)
    assert found.objective(1).spec.startswith(f'direction:"gate:{DEEP}":')
    along = found.objective(1, -1, power=4).spec
    assert along.startswith(f"Along({DEEP}, <float32[240] ")
    assert along.endswith(', 4, "-mode 1")')


def test_amounts_are_finite_along_constant_modes(tiny: fv.TappedModel) -> None:
    natural = GateStatistics.measure(tiny, torch.rand(16, 3, 24, 24, generator=torch.Generator().manual_seed(0)))
    found = modes(natural, "se", 8)  # of a bottleneck of 4
    assert (found.sd > 0).all()
    assert found.amounts(natural["se"].logit_sample).isfinite().all()


def test_a_power_keeps_renders_on_their_modes(statistics: Path) -> None:
    model, found = fv.load("embedded", size=64), modes(GateStatistics.load(statistics), DEEP, 3)
    ends = [(mode, sign) for mode in range(3) for sign in (-1, 1)]
    cosines = []
    for power in (0, 4):
        goals = [found.objective(mode, sign, power=power) for mode, sign in ends]
        images = fv.render(model, goals, **fv.plain(48), size=64, progress=False).images
        seen = found.cosines(model(images, [f"gate:{DEEP}"])[f"gate:{DEEP}"])
        cosines.append(torch.stack([sign * seen[i, mode] for i, (mode, sign) in enumerate(ends)]))
    free, kept = cosines
    assert (kept > free).all()
    assert kept.mean() > free.mean() + 0.15


# --------------------------------------------------------------------------------------------------------- realisable
def test_verdicts() -> None:
    up = [
        ((0.995, 1.0, 0.4, 0.9), study.REACHED),
        ((0.7, 1.0, 0.4, 0.9), study.FAILED),
        ((0.7, 1.0, 0.4, 1.2), study.PAST_PICTURES),
        ((0.7, 0.8, 0.9, 1.5), study.IMPOSSIBLE),
        ((0.7, 0.6, 1.1, 3.0), study.PAST_BOUND),
        ((1.0, 1.0, 1.1, 3.0), study.PAST_BOUND),
    ]
    for (value, bound, way, mixed), expected in up:
        assert study.judge(value, bound, way, mixed, up=True) == expected
        assert study.judge(1 - value, 1 - bound, way, mixed, up=False) == expected


def test_realisable(
    run: Run, script: Callable[[str], ModuleType], crops: Path, statistics: Path, tmp_path: Path
) -> None:
    asked = ["embedded", SITE, "--input", 64, "--images", crops, "--statistics", statistics]
    assert run("realisable", *asked, "--count", 3, "--steps", 4, "--size", 64, "--out", tmp_path) == 0
    report = json.loads((tmp_path / "realisable.json").read_text())
    natural = GateStatistics.load(statistics)
    sd = natural[SITE].logit_sd[[g["unit"] for g in report["gates"]]]
    assert len(sd) == 3
    assert (sd.diff() < 0).all()
    assert sd[0] == natural[SITE].logit_sd.amax()
    for gate in report["gates"]:
        down, up = gate["suppressed"], gate["excited"]
        assert down["logit"] < up["logit"]
        assert down["bound"] <= down["mixture"] <= gate["pictures"][0] + 1e-4
        assert gate["pictures"][4] - 1e-4 <= up["mixture"] <= up["bound"]
        assert down["radii"] > 0
        assert up["value"] == pytest.approx(min(max(up["logit"] / 6 + 0.5, 0), 1), abs=0.05)
        assert up["bound_value"] == pytest.approx(min(max(up["bound"] / 6 + 0.5, 0), 1), abs=1e-4)
    sheet = script("realisable_sheet")
    height, width, _ = iio.imread(tmp_path / "realisable.png").shape
    assert (width, height) == (sheet.LEFT + sheet.RIGHT, sheet.TOP + 3 * sheet.ROW + 34)


def test_squeeze_distance_is_the_distance_of_the_squeeze(statistics: Path, crops: Path) -> None:
    model, natural = fv.load("embedded", size=64), GateStatistics.load(statistics)
    ball = fv.lab.SqueezeEllipsoid.fit(natural, SITE)
    distance = study.SqueezeDistance(fv.gates(model)[SITE], ball)
    pictures = torch.stack([fv.lab.read_picture(crops / f"{i:02}.png", 64) for i in range(12)])
    assert torch.allclose(
        distance(model(pictures, distance.layers)), ball.distance(natural[SITE].squeeze_sample), atol=1e-2
    )


# -------------------------------------------------------------------------------------------------------------- modes
def test_modes(run: Run, crops: Path, statistics: Path, tmp_path: Path) -> None:
    asked = ["embedded", SITE, "--input", 64, "--images", crops, "--statistics", statistics]
    assert run("modes", *asked, "--count", 2, "--steps", 4, "--size", 64, "--out", tmp_path) == 0
    report = json.loads((tmp_path / "modes.json").read_text())
    natural = GateStatistics.load(statistics)
    found = modes(natural, SITE, 2)
    amounts = found.amounts(natural[SITE].logit_sample)
    for i, mode in enumerate(report["modes"]):
        assert mode["share"] == pytest.approx(float(found.share[i]))
        order = natural.sample[amounts[:, i].argsort()].tolist()
        assert mode["minus"]["pictures"] == [natural.names[n] for n in order[:3]]
        assert mode["plus"]["pictures"] == [natural.names[n] for n in order[::-1][:3]]
        assert mode["plus"]["opens"] == found.vectors[i].topk(5).indices.tolist()
        assert all(-1 <= end["cosine"] <= 1 and 0 <= end["other"] <= 1 for end in (mode["minus"], mode["plus"]))
    assert (tmp_path / "modes.png").is_file()


# ---------------------------------------------------------------------------------------------------------- held open
def test_held_open(run: Run, statistics: Path, tmp_path: Path) -> None:
    asked = ["embedded", "features.4:3", "features.4.block.2", "--input", 48, "--steps", 2, "--size", 48]
    with pytest.warns(RuntimeWarning, match="still as they started"):  # with its gates at 0 the layer is constant
        assert run("held_open", *asked, "--statistics", statistics, "--out", tmp_path) == 0
    renders = json.loads((tmp_path / "held_open.json").read_text())["renders"]
    assert [r["constant"] for r in renders] == [
        False,
        False,
        True,
        False,
        False,
    ]  # features.4 has no way around its block
    plain, one, zero, mean, detached = renders
    assert plain["own"] == plain["plain"]
    assert detached["own"] == detached["plain"]  # a gate that passes no gradient has the same value
    assert all(r["own"] != r["plain"] for r in (one, zero, mean))
    with pytest.warns(RuntimeWarning, match="still as they started"):
        assert run("held_open", *asked, "--out", tmp_path / "without") == 0
    assert len(json.loads((tmp_path / "without" / "held_open.json").read_text())["renders"]) == 4


# ---------------------------------------------------------------------------------------------------- gate statistics
def test_gate_statistics(run: Run, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["embedded", "--input", 64, "--images", crops, "--out", tmp_path, "--ablated", 3]
    assert run("gate_statistics", *asked, "--save", tmp_path / "kept.pt") == 0
    natural = GateStatistics.load(tmp_path / "kept.pt")
    assert natural.count == 12
    assert natural.table() in capsys.readouterr().out
    report = json.loads((tmp_path / "gate_statistics.json").read_text())
    assert report["blocks"] == natural.rows()
    assert {(a["site"], a["way"]) for a in report["ablations"]} == {
        (site, way) for site in natural.sites for way in ("mean", "one", "shuffled")
    }
    assert all(a["count"] == 3 for a in report["ablations"])
    assert (tmp_path / "gate_statistics.png").is_file()


def test_gates_that_vary_together_become_neighbours() -> None:
    group = torch.tensor([0, 1, 1, 0, 1, 0])
    correlation = torch.where(group[:, None] == group, 0.9, -0.5).fill_diagonal_(1.0)
    ordered = order_by_correlation(correlation)
    assert (ordered[:3, :3] > 0).all()
    assert (ordered[3:, 3:] > 0).all()
    assert (ordered[:3, 3:] < 0).all()


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("realisable", ["embedded", "nowhere", "--images", "CROPS"], "no gate 'nowhere'"),
        ("realisable", ["embedded", SITE, "--images", "CROPS", "--units", "64"], "it has 64: 0 to 63"),
        ("realisable", ["embedded", SITE, "--images", "nowhere"], "there is no folder 'nowhere'"),
        ("realisable", ["embedded", SITE, "--images", "CROPS", "--statistics", "COMPACT"], "compact file leaves"),
        ("modes", ["embedded", SITE, "--images", "CROPS", "--count", "99"], "there are 1 to"),
        ("modes", ["embedded", SITE, "--images", "CROPS", "--power", "-1", "--steps", "1"], "power=-1"),
        ("modes", ["embedded", SITE, "--images", "OTHERS", "--steps", "1", "--size", "32"], "has no '"),
        ("held_open", ["embedded", "[features.4:3, features.4:4]", "features.4.block.2"], "expected one"),
        ("held_open", ["embedded", "features.4:", "features.4.block.2"], "features.4:"),
        ("held_open", ["nothing", "features.4:3", "features.4.block.2"], "no model 'nothing'"),
        ("gate_statistics", ["torchvision:resnet18", "--weights", "none", "--images", "CROPS"], "no channel gates"),
        ("gate_statistics", ["embedded", "--images", "CROPS", "--statistics", "FOREIGN"], "of another network"),
    ],
)  # fmt: skip
def test_an_error_is_one_line(
    run: Run, crops: Path, statistics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str,
    arguments: list[str], text: str,
) -> None:  # fmt: skip
    natural = GateStatistics.load(statistics)
    natural.save(tmp_path / "compact.pt", compact=True)
    GateStatistics({**natural.sites, SITE: natural["features.9.block.2"]}, natural.count).save(tmp_path / "foreign.pt")
    save_picture(torch.rand(3, 32, 32), tmp_path / "others" / "one.png")
    places = {"CROPS": crops, "OTHERS": tmp_path / "others"}
    places |= {"COMPACT": tmp_path / "compact.pt", "FOREIGN": tmp_path / "foreign.pt"}
    given = [str(places.get(a, a)) for a in arguments]
    if name in ("realisable", "modes") and "--statistics" not in given and "nowhere" not in given:
        given += ["--statistics", str(statistics)]
    assert run(name, *given, "--input", 64, "--out", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert any(line.startswith(f"{name}: ") for line in message.splitlines())
    assert text in message
    assert not (tmp_path / "out").exists()


def test_the_shares_of_the_model_card_are_those_of_a_count(
    script: Callable[[str], ModuleType], tiny: fv.TappedModel
) -> None:
    with torch.no_grad():
        tiny.net.get_parameter("se.fc2.weight").mul_(60)
    images = torch.rand(400, 3, 24, 24) * torch.rand(400, 1, 1, 1)
    natural = GateStatistics.measure(tiny, images, extremes=4)
    with torch.no_grad():
        values = tiny(images, ["gate value:se"])["gate value:se"]
    zero, one = script("train_embedded").measure_ends(natural, "se")
    assert torch.allclose(zero, (values == 0).float().mean(0), atol=0.02)
    assert torch.allclose(one, (values == 1).float().mean(0), atol=0.02)
    assert zero.max() > 0.1
    assert one.max() > 0.1
