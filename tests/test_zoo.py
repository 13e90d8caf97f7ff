"""The zoo uses public names only, and its objectives compute their formulas."""

import ast
from pathlib import Path

import pytest
import torch

import featureviz as fv
import objectives_zoo as zoo


def acts(a: torch.Tensor, views: int = 1) -> fv.Activations:
    return fv.Activations({"x": a}, fv.Rows.make(len(a) // views, views))


def test_the_zoo_imports_public_names_only() -> None:
    for path in Path(zoo.__file__ or "").parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featureviz"):
                assert node.module == "featureviz", path
                assert {n.name for n in node.names} <= set(fv.__all__), path


def test_regularizers_measure_the_image() -> None:
    flat, step = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1.0
    both = torch.cat([flat, step])
    assert zoo.total_variation("x")(acts(both)).tolist() == [0.0, 24.0]
    assert zoo.l1("x")(acts(both)).tolist() == [0.0, 96.0]
    assert zoo.l2("x", centre=0.0)(acts(both))[1].item() == pytest.approx(96**0.5, abs=1e-3)
    edge = torch.full((1, 3, 12, 12), 0.5)
    edge[..., 0, :] = 1.0
    inside = torch.full((1, 3, 12, 12), 0.5)
    inside[..., 6, 6] = 1.0
    cost = zoo.boundary_complexity("x", width=3)(acts(torch.cat([edge, inside, edge * 0 + 0.5])))
    assert cost[0] > 0.01
    assert cost[1].item() == pytest.approx(0, abs=1e-6)
    assert cost[2].item() == pytest.approx(0, abs=1e-6)


def test_sparse_channel_penalises_the_layer() -> None:
    a = torch.randn(3, 5, 4, 4)
    expected = a[:, 2].mean((1, 2)) - 0.3 * a.abs().mean((1, 2, 3))
    assert torch.allclose(zoo.sparse_channel("x", 2, 0.3)(acts(a)), expected)


def test_diversity_is_lowest_for_equal_images_and_compares_equal_views() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(1, 6, 5, 5, generator=g), torch.randn(1, 6, 5, 5, generator=g)
    twins = zoo.Diversity("x")(acts(torch.cat([a, a])))
    assert torch.allclose(twins, torch.tensor([-1.0, -1.0]), atol=1e-5)
    assert (zoo.Diversity("x")(acts(torch.cat([a, b]))) > twins).all()
    views = zoo.Diversity("x")(acts(torch.cat([a, b, a, b]), views=2))  # images (a, b) and (a, b): the same views
    assert torch.allclose(views, torch.full((4,), -1.0), atol=1e-5)


def test_diversity_makes_renders_differ(embedded: fv.TappedModel) -> None:
    layer = "features.6"
    plain = fv.Channel(layer, [3, 3, 3])
    options = {"steps": 24, "size": 64, "progress": False}
    alike, unlike = (
        fv.render(embedded, goal, **options).images for goal in (plain, plain + 5 * zoo.Diversity(layer))
    )  # fmt: skip
    score = [float(fv.evaluate(embedded, zoo.Diversity(layer), images).scores.mean()) for images in (alike, unlike)]
    assert score[1] > score[0] + 0.02


def test_alignment_and_interpolation() -> None:
    a = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    assert zoo.Alignment("x")(acts(a)).tolist() == [-1.0, -2.0, -1.0]
    series = zoo.interpolation(fv.Channel("x", 0), fv.Channel("x", 1), 3)
    b = torch.stack([torch.full((3, 4, 4), 2.0), torch.full((3, 4, 4), 4.0)], 1)
    assert series(acts(b)).tolist() == [2.0, 3.0, 4.0]
