"""Gate statistics: compared with plain torch on all logits, for every split into batches, and with parts missing."""

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError
from featureviz.lab import GateStatistics
from featureviz.lab.statistics.co_gating import correlation
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.measuring import RunningStatistics
from featureviz.lab.statistics.pictures import Batch, Pictures
from tests.conftest import TinySE


def images(count: int = 150, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, 8, 8, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator)
    return nn.functional.interpolate(small, size=size, mode="bilinear")


def everything(model: fv.TappedModel, x: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Logits, squeezes and values of every block on all images."""
    sites = fv.gates(model)
    taps = {f"{n} {k}": tap for n, s in sites.items() for k, tap in (("z", s.logits), ("x", s.x), ("g", s.value))}
    readings = model.isolated().read(x, taps)
    return {n: (readings[f"{n} z"], site.squeezed(readings[f"{n} x"]), readings[f"{n} g"]) for n, site in sites.items()}


def test_measured_statistics_are_those_of_all_logits(embedded: fv.TappedModel) -> None:
    x = images()
    measured = GateStatistics.measure(embedded, x, extremes=16, sample=50)
    levels = torch.tensor(LEVELS)
    assert measured.count == 150
    assert list(measured.sites) == list(fv.gates(embedded))
    assert len(measured.sample) == 50
    for name, (z, s, g) in everything(embedded, x).items():
        site = measured[name]
        for mean, sd, q, truth in (
            (site.logit_mean, site.logit_sd, site.quantiles, z),
            (site.squeeze_mean, site.squeeze_sd, site.squeeze_quantiles, s),
        ):
            spread = truth.amax(0) - truth.amin(0)
            assert torch.allclose(mean, truth.mean(0), atol=1e-5)
            assert torch.allclose(sd, truth.std(0), atol=1e-5)
            assert ((q - torch.quantile(truth, levels, dim=0)).abs() <= spread / 255 + 1e-5).all()
        assert torch.allclose(site.value_sd, g.std(0), atol=1e-5)
        assert torch.allclose(site.closed, (g <= 0.01).float().mean(0), atol=0.011)  # one image may fall either way
        assert torch.allclose(site.saturated, ((g <= 0.01) | (g >= 0.99)).float().mean(0), atol=0.011)
        static = 1 - g.var(0, correction=0).mean() / g.var(correction=0)
        assert site.static_share == pytest.approx(float(static), abs=1e-5)
        assert torch.allclose(site.logit_covariance, z.T.cov(), atol=1e-4)
        assert torch.allclose(site.squeeze_covariance, s.T.cov(), atol=1e-4)
        moving = z.std(0) > 1e-3
        truth = z[:, moving].double().T.corrcoef()
        assert torch.allclose(site.correlation[moving][:, moving].double(), truth, atol=1e-3)
        p = torch.linalg.eigvalsh(correlation(z.double().T.cov(), z.mean(0))).clamp(min=1e-12)
        p = p / p.sum()
        assert site.effective_rank == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-2)
        assert torch.allclose(site.logit_sample, z[measured.sample], atol=1e-4)
        assert torch.allclose(site.squeeze_sample, s[measured.sample], atol=1e-4)
        assert torch.allclose(site.highest, z.topk(16, dim=0).values, atol=1e-4)
        assert torch.allclose(z.gather(0, site.lowest_images), site.lowest, atol=1e-4)
        assert (site.histogram_counts.sum(1) == 150).all()


def test_batches_do_not_change_what_is_measured(embedded: fv.TappedModel) -> None:
    x, labels = images(33, 32), torch.arange(33) % 4
    whole, sevens, ones = (
        GateStatistics.measure(embedded, [(x[rows], labels[rows]) for rows in torch.arange(33).split(size)], sample=9)
        for size in (33, 7, 1)
    )
    for other in (sevens, ones):
        assert torch.equal(other.sample, whole.sample)
        for name, site in whole.sites.items():
            for part, truth in site.tensors.items():
                if part not in ("lowest_images", "highest_images", "histogram_counts", "histogram_start"):
                    scale = max(1.0, float(truth.abs().max()))
                    assert torch.allclose(other[name].tensor(part), truth, rtol=0, atol=2e-5 * scale), (name, part)
            same = other[name].highest_images[0] == whole[name].highest_images[0]
            assert same.float().mean() > 0.98, name  # a tie within rounding may go either way


def test_labels_give_class_profiles(embedded: fv.TappedModel, tmp_path: Path) -> None:
    x = (images(30, 40) * 255).byte().permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(x):
        folder = tmp_path / ("dark" if i % 2 else "plain")
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture // (4 if i % 2 else 1)).save(folder / f"{i:02}.png")
    (tmp_path / "plain" / "broken.png").write_bytes(b"")
    pictures = Pictures(tmp_path, 40)
    measured = GateStatistics.measure(embedded, pictures)
    assert (measured.classes, measured.class_counts, measured.count) == (("dark", "plain"), (15, 15), 30)
    assert [Path(path).name for path, _ in measured.skipped] == ["broken.png"]
    assert measured.names[0] == "dark/01.png"
    (batch,) = pictures
    for name, (_, _, g) in everything(embedded, batch.images).items():
        site = measured[name]
        means = torch.stack([g[:15].mean(0), g[15:].mean(0)])
        assert torch.allclose(site.class_means, means, atol=1e-5)
        eta = means.var(0, correction=0) / g.var(0, correction=0).clamp(min=1e-12)
        moving = g.std(0) > 1e-3
        assert torch.allclose(site.eta_squared[moving], eta[moving], atol=1e-3)
    low, high = measured.examples("features.9.block.2", 3, most=2)
    z = everything(embedded, batch.images)["features.9.block.2"][0][:, 3]
    assert (high[0].image, high[0].logit) == (int(z.argmax()), pytest.approx(float(z.max()), abs=1e-4))
    assert high[0].name == measured.names[high[0].image]
    assert low[0].logit <= low[1].logit <= high[1].logit
    assert "eta^2" in measured.table()


def test_a_folder_is_read_at_the_models_input_size(tiny: fv.TappedModel, tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (50, 40), (80 * i, 10, 200)).save(tmp_path / f"{i}.png")
    direct = GateStatistics.measure(tiny, Pictures(tmp_path, 24))
    assert torch.equal(GateStatistics.measure(tiny, tmp_path)["se"].quantiles, direct["se"].quantiles)


def test_saved_statistics_come_back(tiny: fv.TappedModel, tmp_path: Path) -> None:
    batch = Batch(torch.rand(20, 3, 24, 24), torch.arange(20) % 2, tuple(f"{i}.png" for i in range(20)))
    measured = GateStatistics.measure(tiny, [batch], extremes=4, sample=5)
    measured.save(tmp_path / "full.pt")
    full = GateStatistics.load(tmp_path / "full.pt")
    assert all(torch.equal(full["se"].tensor(k), v) for k, v in measured["se"].tensors.items())
    assert (full.names, full.classes, full.class_counts) == (measured.names, ("0", "1"), (10, 10))
    assert torch.equal(full.sample, measured.sample)
    assert full.rows() == measured.rows()
    measured.save(tmp_path / "small.pt", compact=True)
    small = GateStatistics.load(tmp_path / "small.pt")
    for part in ("quantiles", "squeeze_quantiles", "value_sd", "eta_squared", "closed"):
        assert torch.allclose(small["se"].tensor(part), measured["se"].tensor(part), rtol=1e-3, atol=1e-3)
    assert small["se"].effective_rank == pytest.approx(measured["se"].effective_rank, rel=1e-3)
    assert (tmp_path / "small.pt").stat().st_size < (tmp_path / "full.pt").stat().st_size / 2
    with pytest.raises(InvalidInput, match="a compact file leaves it out; measure again, or save with compact=False"):
        _ = small["se"].squeeze_covariance
    (tmp_path / "no.pt").write_bytes(b"hello")
    for name in ("no.pt", "missing.pt"):
        with pytest.raises(InvalidInput, match=r"holds no gate statistics|No such file"):
            GateStatistics.load(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"count": "many"}, {"count": torch.nan}, {"sites": [1]}, {"sites": {"se": {"quantiles": torch.zeros(31, 4)}}},
        {"sites": {"se": {"quantiles": torch.zeros(3, 4), "logit_mean": torch.zeros(4)}}}, {"sites": {"se": 3}},
        {"about": {"unheard": 1}}, {"about": {"skipped": [1]}}, {"about": 3}, {"levels": "all"},
    ],
)  # fmt: skip
def test_a_file_with_other_things_in_it_is_explained(tmp_path: Path, change: dict[str, object]) -> None:
    table = {"quantiles": torch.zeros(len(LEVELS), 4), "logit_mean": torch.zeros(4)}
    right: dict[str, object] = {"count": 9, "levels": list(LEVELS), "sites": {"se": table}}
    torch.save(right, tmp_path / "right.pt")
    assert GateStatistics.load(tmp_path / "right.pt").count == 9
    torch.save(right | change, tmp_path / "wrong.pt")
    with pytest.raises(InvalidInput, match=r"wrong\.pt holds no gate statistics"):
        GateStatistics.load(tmp_path / "wrong.pt")


def test_the_old_format_still_loads(tmp_path: Path) -> None:
    parts = ("logit_mean", "logit_sd", "value_mean", "value_sd")
    old = {"quantiles": torch.rand(len(LEVELS), 4).sort(0).values.half()} | {k: torch.rand(4).half() for k in parts}
    torch.save({"count": 9, "levels": list(LEVELS), "sites": {"se": old}}, tmp_path / "old.pt")
    loaded = GateStatistics.load(tmp_path / "old.pt")
    assert loaded["se"].value_sd.dtype == torch.float32
    assert loaded.percentile("se", 2, loaded["se"].quantiles[[0, 3, -1], 2]).tolist() == pytest.approx([0, 0.5, 100])
    assert loaded.rows()[0]["saturated"] is None
    assert "-" in loaded.table()
    for part in ("squeeze_quantiles", "effective_rank"):
        with pytest.raises(InvalidInput, match="measure again"):
            getattr(loaded["se"], part)


def test_percentiles_of_squeezes_and_of_wrong_units(tiny: fv.TappedModel) -> None:
    measured = GateStatistics.measure(tiny, torch.rand(20, 3, 24, 24))
    q = measured["se"].squeeze_quantiles[:, 1]
    found = measured.percentile("se", 1, q[[0, LEVELS.index(0.5), -1]], of="squeeze")
    assert found.tolist() == pytest.approx([0, 50, 100], abs=1e-3)
    with pytest.raises(InvalidInput, match="unit 8 of 'se' was asked for; it has 8: 0 to 7"):
        measured.percentile("se", 8, q)


def test_tables_and_rows(tiny: fv.TappedModel) -> None:
    measured = GateStatistics.measure(tiny, torch.rand(20, 3, 24, 24))
    head, line = measured.table().splitlines()
    assert line.split()[:2] == ["se", "8"]
    assert "eta" not in head
    assert len(head) == len(line)
    (row,) = json.loads(json.dumps(measured.rows()))
    assert row["mean"] == pytest.approx(float(measured["se"].value_mean.mean()))
    with pytest.raises(InvalidInput, match="measured without labels; measure with pictures in class folders"):
        _ = measured["se"].eta_squared


@pytest.mark.parametrize("channels", [1, 6])
def test_constant_gates_give_finite_numbers(channels: int) -> None:
    net = TinySE(channels)
    nn.init.zeros_(net.se.fc2.weight)
    model = fv.wrap(net, size=24)
    x = torch.rand(10, 3, 24, 24)
    measured = GateStatistics.measure(model, [(x, torch.arange(10) % 2)])
    site = measured["se"]
    for name, part in site.tensors.items():
        assert part.isfinite().all(), name
    assert site.static_share == pytest.approx(1)
    assert site.effective_rank == 0
    assert (site.correlation == 0).all()
    assert (site.eta_squared == 0).all()
    assert (site.logit_sd == 0).all()
    still = site.quantiles[0, 0]
    at = measured.percentile("se", 0, torch.stack([still - 1, still, still + 1]))
    assert at.tolist() == pytest.approx([0, 50, 100], abs=0.1)  # in the middle of what is all the same


def test_a_block_of_one_gate() -> None:
    torch.manual_seed(1)
    site = GateStatistics.measure(fv.wrap(TinySE(1), size=24), images(10, 24))["se"]
    assert site.logit_sd.shape == (1,)
    assert site.effective_rank == pytest.approx(1 if site.logit_sd > 1e-6 else 0)
    assert 0 <= site.static_share < 1e-6  # there are no differences between gates
    assert all(part.isfinite().all() for part in site.tensors.values())


def marked(net: nn.Module, on_black: Callable[[Tensor], Tensor]) -> fv.TappedModel:
    """A model in which ``on_black`` is applied to batches with a black image."""

    def enter(net: nn.Module, x: Tensor) -> Tensor:
        black = x.flatten(1).amax(1) == 0
        return net(torch.where(black.view(-1, 1, 1, 1), on_black(x), x) if bool(black.any()) else x)

    return fv.wrap(net, size=24, forward_fn=enter)


def test_a_gate_that_is_not_finite_names_block_and_image() -> None:
    model = marked(TinySE(), lambda x: x + torch.nan)
    x = torch.rand(50, 3, 24, 24)
    x[41] = 0
    with pytest.raises(ModelError, match=r"of block 'se' are not finite on image 41; leave"):
        GateStatistics.measure(model, x)
    with pytest.raises(ModelError, match=r"not finite on image 41 \(41\.png\)"):
        GateStatistics.measure(model, [Batch(x, None, tuple(f"{i}.png" for i in range(50)))])


def test_ctrl_c_returns_the_statistics_so_far(tiny: fv.TappedModel) -> None:
    def pressed(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    x = torch.rand(40, 3, 24, 24)
    black = torch.cat([x[:20], torch.zeros(1, 3, 24, 24)])
    model = marked(TinySE(), pressed)
    found = GateStatistics.measure(model, black.split(5))
    assert (found.count, found.interrupted) == (20, True)
    whole = GateStatistics.measure(model, x[:20].split(5))
    assert not whole.interrupted
    assert all(torch.equal(found["se"].tensor(k), v) for k, v in whole["se"].tensors.items())

    def source() -> Iterator[Tensor]:
        yield x[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GateStatistics.measure(tiny, source())


def test_memory_does_not_grow_with_the_images(tiny: fv.TappedModel) -> None:
    sites = fv.gates(tiny).channelwise
    running, sizes = RunningStatistics.empty(sites, extremes=4), []
    for _ in range(6):
        running = running.add(tiny, Batch(torch.rand(10, 3, 24, 24)), sample=8, seed=0)
        block = running.blocks["se"]
        kept = [*vars(block.logits.histogram).values(), *vars(block.logits.extremes).values(), block.logits.sample]
        sizes.append(sum(t.numel() for t in kept if isinstance(t, Tensor)))
    assert len(set(sizes)) == 1


def test_what_cannot_be_measured_is_refused(tiny: fv.TappedModel, net: nn.Module, tmp_path: Path) -> None:
    plain = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=16)
    with pytest.raises(ModelError, match="has no channel gates to measure; give a network with"):
        GateStatistics.measure(plain, torch.rand(4, 3, 16, 16))
    with pytest.raises(InvalidInput, match="1 images were given; expected at least 2"):
        GateStatistics.measure(tiny, torch.rand(1, 3, 24, 24))
    with pytest.raises(InvalidInput, match=r"wrap it first"):
        GateStatistics.measure(net, torch.rand(4, 3, 24, 24))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="extremes=0"):
        GateStatistics.measure(tiny, torch.rand(4, 3, 24, 24), extremes=0)
    with pytest.raises(InvalidInput, match="there is no folder"):
        GateStatistics.measure(tiny, tmp_path / "none")
    with pytest.raises(ModelError, match=r"forward failed on \[4, 4, 24, 24\]"):
        GateStatistics.measure(tiny, torch.rand(4, 4, 24, 24))
    assert GateStatistics.measure(tiny, torch.rand(4, 3, 24, 24), sample=0)["se"].logit_sample.shape == (0, 8)


def test_a_real_network_is_measured(real_weights: Path) -> None:
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(real_weights)).items()}
    net.load_state_dict(state, strict=False)
    model = fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=96)
    rows = GateStatistics.measure(model, images(8, 96)).rows()
    assert sum(row["gates"] for row in rows) == 4056
    assert all(0 <= row["static_share"] <= 1 and 1 <= row["effective_rank"] <= 7 for row in rows)


def test_the_shipped_statistics_stay_small() -> None:
    assert len((files("featureviz.models") / "embedded_gates.pt").read_bytes()) < 500_000
