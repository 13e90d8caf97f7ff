"""Every parameterization climbs on every objective of a small table, and image i does not depend on the batch."""

import pytest
import torch

import featureviz as fv
from tests.image.test_image import FROM_NOISE

GOALS = {
    "channel": fv.Channel("conv", 1), "neuron": fv.Neuron("conv", 2), "everything": fv.DeepDream("conv"),
    "class": fv.Logit(3), "sum": fv.Channel("conv", 1) - 0.5 * fv.Channel("stem", 3),
}  # fmt: skip
RATES = {"cppn": 0.005, "maco": 0.3}
OPTIONS = {"size": 24, "steps": 24, "transforms": [], "progress": False}


@pytest.mark.parametrize("family", FROM_NOISE)
def test_a_family_climbs_on_every_objective(family: str, tiny: fv.TappedModel) -> None:
    made = fv.render(
        tiny, list(GOALS.values()), image=FROM_NOISE[family], optimizer=fv.Adam(RATES.get(family, 0.05)), **OPTIONS
    )
    start, end = made.scores[:4].mean(0), made.scores[-4:].mean(0)
    assert dict(zip(GOALS, (end > start).tolist(), strict=True)) == dict.fromkeys(GOALS, True)


@pytest.mark.parametrize("family", [name for name in FROM_NOISE if name != "shared"])
def test_an_image_does_not_depend_on_its_batch(family: str, tiny: fv.TappedModel) -> None:
    options = {**OPTIONS, "steps": 3, "image": FROM_NOISE[family]}
    together = fv.render(tiny, list(GOALS.values()), **options)
    alone = fv.render(tiny, GOALS["everything"], image_ids=[2], **options)
    assert torch.allclose(alone.images[0], together.images[2], atol=1e-4)
