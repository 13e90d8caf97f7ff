"""The parts of the study of recipes that decide what its figures mean."""

from typing import Any

import pytest
import torch

import featureviz as fv
from benchmarks.report.clarity_tables import tabulate_clarity, tabulate_planted
from benchmarks.studies.clarity.figures import measure_clipping, measure_slope
from benchmarks.studies.clarity.nature import Nature
from benchmarks.studies.clarity.planted import Matching
from benchmarks.studies.clarity.recipes import CLEAR, PLAIN, list_recipes
from benchmarks.studies.clarity.report import compare, summarise


def test_all_recipes_take_the_same_steps() -> None:
    recipes = list_recipes(24)
    assert {recipe["steps"] for recipe in recipes.values()} == {24}
    assert repr(recipes[CLEAR]) == repr(fv.clear(24))


@pytest.mark.parametrize("decay", [1.0, 1.5])
def test_the_slope_is_the_power_of_the_spectrum(decay: float) -> None:
    images = fv.FourierImage(4, 128, decay=decay, decorrelate=False)().detach()
    assert sum(map(measure_slope, images)) / 4 == pytest.approx(decay, abs=0.15)


def test_clipped_pixels_are_those_at_either_end() -> None:
    image = torch.full((3, 2, 2), 0.5)
    image[0, 0, 0], image[2, 1, 1] = 0.0, 1.0
    assert measure_clipping(image) == 0.5


def test_a_picture_like_the_top_ones_is_near_and_one_far_off_is_not() -> None:
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    nature = Nature({"a": features}, torch.nn.functional.normalize(features, dim=1))
    best = int(features[:, 2].argmax())
    assert nature.distance("a", 2, features[best]) < 1.5
    assert nature.distance("a", 2, 20 * features[best]) > 5
    assert nature.auc("a", 2, torch.eye(6)[2]) > 0.9
    assert nature.auc("a", 2, -torch.eye(6)[2]) < 0.1


def test_the_best_match_is_the_template_itself() -> None:
    template = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    matching = Matching(template)
    best = matching(torch.nn.functional.pad(template, (4, 2, 3, 3), value=0.5)).flatten(2).amax(2)
    assert (best.diagonal() > 0.97).all()
    assert best[0, 1] < 0.5


def test_changes_are_paired_and_their_interval_holds_the_median() -> None:
    rows: list[dict[str, Any]] = [
        {"layer": layer, "unit": unit, "recipe": recipe, "contrast": (1 + unit) * (2 if recipe == CLEAR else 1)}
        for layer in ("a", "b") for unit in range(4) for recipe in (PLAIN, CLEAR)
    ]  # fmt: skip
    summary = summarise(rows)
    assert summary["all"][CLEAR]["contrast against plain"] == [2, 2, 2]
    assert summary["a"][CLEAR]["pictures"] == 4
    low, high = compare([(1.0, 2.0), (3.0, 2.0), (2.0, 2.0)], ratio=True)[1:]
    assert low <= 1 <= high


def test_tables_show_medians_with_intervals() -> None:
    change = {"pictures": 8, "contrast against plain": [1.5, 1.2, 1.7], "AUC against plain": [-0.01, -0.1, 0.1]}
    table = tabulate_clarity({"networks": {"real": {"all": {PLAIN: {"pictures": 8}, CLEAR: change}}}})
    assert "| real, all | clear | 8 | - | - | - | - | 1.50 (1.20, 1.70) | - | -0.01 (-0.10, +0.10) |" in table
    assert "| clear | 0.80 | 0.90 |" in tabulate_planted({"planted": {CLEAR: {"rigid": [0.8], "movable": [0.9]}}})
