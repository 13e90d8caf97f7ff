"""The embedded network: the facts of its model card, and its natural statistics."""

from importlib.resources import files

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput, UnknownName
from featureviz.lab import GateStatistics, natural_gates
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.models.embedded import embedded_net


def test_it_is_small_and_safe_to_load() -> None:
    folder = files("featureviz.models")
    sizes = [len((folder / name).read_bytes()) for name in ("embedded.pt", "embedded_gates.pt")]
    assert sum(sizes) <= 3_000_000
    assert set(embedded_net().state_dict()) == set(fv.load("embedded").net.state_dict())


def test_it_has_labels_and_gates_in_every_block(embedded: fv.TappedModel) -> None:
    assert embedded.labels is not None
    assert embedded.labels[207] == "golden retriever"
    assert [site.channels for site in fv.gates(embedded).values()] == [48, 64, 96, 96, 160, 160, 240, 320, 320]


def test_its_gates_vary_between_natural_images() -> None:
    natural = natural_gates()
    assert natural.count >= 5000
    for name, site in natural.sites.items():
        assert (site.value_sd > 0.01).float().mean() > 0.5, name
        assert torch.isfinite(site.quantiles).all()
        assert (site.quantiles.diff(dim=0) >= 0).all()


def test_percentiles_interpolate_the_quantiles() -> None:
    natural = natural_gates()
    q = natural["features.5.block.2"].quantiles[:, 7]
    at = natural.percentile("features.5.block.2", 7, q)
    assert torch.allclose(at, 100 * torch.tensor(LEVELS), atol=1e-3)
    ends = natural.percentile("features.5.block.2", 7, torch.tensor([-1e4, 1e4]))
    assert ends.tolist() == [0.0, 100.0]
    middle = natural.percentile("features.5.block.2", 7, (q[10] + q[11])[None] / 2)
    assert middle.item() == pytest.approx(50 * (LEVELS[10] + LEVELS[11]), abs=1e-3)
    with pytest.raises(UnknownName, match=r"nearest: 'features\.5\.block\.2'"):
        natural["features.5"]


def test_statistics_are_measured_saved_and_read_back(
    tiny: fv.TappedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = torch.rand(300, 3, 24, 24, generator=torch.Generator().manual_seed(0)) ** 2
    measured = GateStatistics.measure(tiny, images.split(64))
    with torch.no_grad():
        a = tiny(images, ["gate:se", "gate value:se"])
    assert measured.count == 300
    site = measured["se"]
    assert torch.allclose(site.logit_mean, a["gate:se"].mean(0), atol=1e-5)
    assert torch.allclose(site.logit_sd, a["gate:se"].std(0), atol=1e-5)
    assert torch.allclose(site.value_mean, a["gate value:se"].mean(0), atol=1e-5)
    assert torch.allclose(site.quantiles[0], a["gate:se"].amin(0))
    assert torch.allclose(site.quantiles[LEVELS.index(0.5)], a["gate:se"].median(0).values, atol=1e-2)
    path = tmp_path_factory.mktemp("s") / "gates.pt"
    measured.save(path)
    again = GateStatistics.load(path)
    assert again.count == 300
    assert torch.allclose(again["se"].quantiles, site.quantiles, atol=1e-3)
    with pytest.raises(InvalidInput, match="expected at least 2"):
        GateStatistics.measure(tiny, images[:1].split(1))
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "levels": [0.0, 1.0]}, path)
    with pytest.raises(InvalidInput, match="measure the statistics again"):
        GateStatistics.load(path)
