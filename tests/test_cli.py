"""The command line: what it writes, and that every mistake is one clear line and exit code 2."""

import html
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import featureviz as fv
from featureviz.cli import main
from featureviz.lab.statistics.measuring import OPEN, SHUT
from featureviz.rendering.png import to_pixels


def pictures_of(page: Path) -> list[Path]:
    return [page.parent / name for name in re.findall(r'src="([^"]+)"', page.read_text())]


def test_the_demo_writes_a_page_that_shows_what_its_report_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gallery"
    assert main(["demo", "--out", str(out), "--gates", "3", "--steps", "12", "--size", "64"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    report = json.loads((out / "report.json").read_text())
    page = (out / "index.html").read_text()
    assert len(report["gates"]) == 3
    natural = fv.lab.natural_gates()
    for gate in report["gates"]:
        assert f"gate:{gate['site']}:{gate['channel']}" in page
        assert gate["seconds"] > 0
        for side in ("excited", "suppressed"):
            shown = gate["renders"][side]
            assert len(shown["values"]) == 16
            assert shown["value"] == pytest.approx(sum(shown["values"]) / 16, abs=2e-4)
            assert f"{side} {shown['value']:.2f}" in page
            assert 0 <= shown["percentile"] <= 100
            assert iio.imread(out / shown["file"]).shape == (64, 64, 3)
            assert fv.read_recipe(out / shown["file"])["model"] == "embedded"
        spread = float(natural[gate["site"]].value_sd[gate["channel"]])
        assert gate["natural"]["value sd"] == pytest.approx(spread, abs=1e-3)
        assert gate["renders"]["excited"]["value"] > gate["renders"]["suppressed"]["value"]
    assert all(p.is_file() for p in pictures_of(out / "index.html"))
    assert (out / "sheet.png").is_file()
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "<script" not in page


def test_the_demos_gates_go_beyond_natural_pictures_both_ways(tmp_path: Path) -> None:
    """At its own number of steps, on the three deepest blocks: beyond 99.9 and 0.1 %, open and shut."""
    assert main(["demo", "--out", str(tmp_path), "--gates", "3"]) == 0
    for gate in json.loads((tmp_path / "report.json").read_text())["gates"]:
        excited, suppressed = gate["renders"]["excited"], gate["renders"]["suppressed"]
        assert excited["percentile"] >= 99.9, gate
        assert suppressed["percentile"] <= 0.1, gate
        assert excited["value"] >= OPEN, gate
        assert suppressed["value"] <= SHUT, gate


def test_the_demo_spreads_over_the_depth_by_how_much_gates_vary() -> None:
    from featureviz.gallery.cards.entry import choose_gates

    model, natural = fv.load("embedded"), fv.lab.natural_gates()
    chosen = choose_gates(list(model.gates), natural, 12)
    assert list(chosen) == list(model.gates)
    assert sum(map(len, chosen.values())) == 12
    for site, units in chosen.items():
        assert float(natural[site].value_sd[units].min()) >= float(natural[site].value_sd.median())


def test_render_writes_tiles_a_sheet_and_a_page(tmp_path: Path) -> None:
    specs = [
        "features.3:4",
        "-gate:features.9.block.2:1",
        "2*features.3:4 - features.2:1",
        'logit:"tench"',
        "features.3:5",
    ]
    options = ["--out", str(tmp_path / "out"), "--steps", "3", "--size", "48", "--batch", "2"]
    assert main(["render", "embedded", *specs, *options]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [unit["spec"] for unit in report["units"]] == [repr(fv.parse(s)) for s in specs]
    assert all(len(unit["score"]) == 16 for unit in report["units"])
    assert "gates" in report["units"][1]
    for unit in report["units"]:
        recipe = fv.read_recipe(tmp_path / "out" / unit["file"])
        assert (recipe["steps"], recipe["spec"]) == (3, unit["spec"])
        again = fv.render(
            fv.load("embedded"), recipe["spec"], image_ids=recipe["image_ids"], steps=3, size=48, progress=False
        )
        picture = iio.imread(tmp_path / "out" / unit["file"])
        assert np.abs(picture.astype(int) - to_pixels(again.images[0]).astype(int)).max() <= 1
    page = tmp_path / "out/index.html"
    assert len(pictures_of(page)) == 5
    assert all(p.is_file() for p in pictures_of(page))
    assert 'logit:"tench"' in html.unescape(page.read_text())


def test_layers_and_gates_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "embedded"]) == 0
    listed = capsys.readouterr().out
    assert "features.9.block.2 " in listed
    assert "[1, 80, 6, 6]" in listed
    assert main(["gates", "torchvision:mobilenet_v3_small", "--weights", "none", "--input", "64"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "embedded", "feature.3:4"], "no layer 'feature.3'; nearest: 'features.3'"),
        (["render", "embedded", "features.3:999"], "channel 999 of 'features.3' was asked for; it has 24: 0 to 23"),
        (["render", "embedded", "features.3"], "expected ':' and a channel after 'features.3', as in features.3:0"),
        (["render", "embedded", "features.3:1 +"], "position 14"),
        (["render", "embedded", "gate:features.3:1"], "no gate 'features.3'; nearest: 'features.3.block.2'"),
        (["render", "embedded", "logit:tenth"], "nearest: 'tench'"),
        (["render", "embeded", "features.3:1"], "no model 'embeded'; nearest: 'embedded'"),
        (["render", "torchvision:resnet19", "conv1:1"], "nearest: 'torchvision:resnet18'"),
        (["render", "timm:mobilenetv3_larg_100", "conv1:1"], "nearest: 'timm:mobilenetv3_large_100'"),
        (["gates", "torchvision:resnet18", "--weights", "none"], "has no squeeze-and-excitation gates"),
        (["gates", "torchvision:resnet18", "--weights", "nowhere.pt"], "cannot read nowhere.pt"),
        (
            ["render", "torchvision:resnet18", "--weights", "none", "gate:layer1:1"],
            "has no squeeze-and-excitation gates",
        ),
        (["render", "torchvision:vgg11", "--weights", "none", "--input", "16", "features.20:1"], "give a larger size"),
        (["render", "embedded", "features.3:1", "--lr", "0"], "lr=0.0 was given"),
        (["render", "embedded", "features.3:1", "--device", "nonsense"], "device='nonsense' cannot be used"),
        (["render", "embedded", "features.3:1", "features.6:999"], "channel 999 of 'features.6'"),
        (["render", "embedded", "features.3:99999999999999999999"], "expected an index from 0"),
        (["render", "embedded", "features.3:1", "--weights", "nowhere.pt"], "cannot read nowhere.pt"),
        (["gates", "timm:resnet18.nothing", "--weights", "none"], "leave out its tag or its options"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--steps", "2", "--size", "16"] if arguments[0] == "render" else []
    assert main([*arguments, *out]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "featureviz: " in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_known_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    for command in (["demo"], ["render", "embedded", "features.3:1"]):
        assert main([*command, "--out", str(tmp_path / "file/deeper")]) == 2
        shown = capsys.readouterr().err
        assert "is a file; give another folder (--out)" in shown
        assert "step" not in shown
    assert (tmp_path / "file").read_text() == "mine"


def test_nan_weights_are_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = fv.models.embedded.embedded_net()
    state = __import__("torchvision").models.resnet18(weights=None).state_dict()
    state["conv1.weight"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    where = ["--weights", str(tmp_path / "nan.pt"), "--input", "32", "--size", "32", "--out", str(tmp_path / "out")]
    assert main(["render", "torchvision:resnet18", "layer1:1", *where]) == 2
    assert "weights 'conv1.weight' are not finite" in capsys.readouterr().err
    torch.save(net.state_dict(), tmp_path / "other.pt")
    where[1] = str(tmp_path / "other.pt")
    assert main(["render", "torchvision:resnet18", "layer1:1", *where]) == 2
    assert "does not fit ResNet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_downloaded_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(fv.FeaturevizError, match=r"weights=PATH.*weights=None"):
        fv.load("torchvision:mobilenet_v3_small")


def test_weights_from_a_file_are_loaded(tmp_path: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    torch.manual_seed(1)
    net = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pth")
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        model = fv.load("torchvision:mobilenet_v3_small", weights=tmp_path / name)
        assert torch.equal(model.net.get_parameter("features.0.0.weight"), net.get_parameter("features.0.0.weight"))
    assert model.size == 224
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(fv.FeaturevizError, match="holds a list; expected a state dict"):
        fv.load("torchvision:mobilenet_v3_small", weights=tmp_path / "list.pth")
    one, two = (fv.load("embedded", weights=w).net.get_parameter("features.0.0.weight") for w in (None, "default"))
    assert not torch.equal(one, two)
    torch.save({k: v for k, v in net.state_dict().items() if not k.startswith("classifier")}, tmp_path / "part.pth")
    with pytest.warns(UserWarning, match=r"lacks 4 tensors, which stay random; the first is 'classifier\.0\.weight'"):
        fv.load("torchvision:mobilenet_v3_small", weights=tmp_path / "part.pth")
    assert model.labels is not None
    assert model.labels[0] == "tench"


def test_timm_networks_load_with_their_own_preprocessing() -> None:
    model = fv.load("timm:mobilenetv3_small_050", weights=None, size=64)
    assert model.labels is not None
    assert len(model.labels) == 1000
    assert [round(v, 3) for v in model.running.mean.flatten().tolist()] == [0.485, 0.456, 0.406]
    assert model(model.noise_images(), ["output"])["output"].shape == (1, 1000)


def test_the_command_and_the_module_run() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "featureviz", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == f"featureviz {fv.__version__}"
    bad = subprocess.run(
        [sys.executable, "-m", "featureviz", "gates", "nothing"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr


def test_importing_is_light() -> None:
    heavy = "'kornia', 'timm', 'ray', 'torchvision', 'PIL'"
    code = f"import sys, featureviz; print([m for m in ({heavy}) if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_gallery_script_takes_layers_gates_and_specs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(__file__).parents[1] / "scripts/render_gallery.py"
    spec = importlib.util.spec_from_file_location("render_gallery", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    what = ["features.3", "gate:features.2.block.2", "features.6:3 - (1)"]
    options = ["--units", "2-3", "--steps", "2", "--size", "32", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["render_gallery.py", "embedded", *what, *options])
    assert script.main() == 0
    units = json.loads((tmp_path / "report.json").read_text())["units"]
    assert [u["spec"] for u in units] == [
        "features.3:2", "features.3:3", "gate:features.2.block.2:2", "gate:features.2.block.2:3", "features.6:3 - (1)",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["render_gallery.py", "embedded", "features.33", "--out", str(tmp_path)])
    assert script.main() == 2
    assert "expected ':' and a channel" in capsys.readouterr().err
