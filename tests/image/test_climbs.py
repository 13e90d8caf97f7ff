"""Every parameterization climbs on every objective of a small table, and image i does not depend on the batch."""

import pytest
import torch

import featureviz as fv
from tests.image.test_image import EVERY

GOALS = {
    "channel": fv.Channel("conv", 1), "neuron": fv.Neuron("conv", 2), "everything": fv.DeepDream("conv"),
    "class": fv.Logit(3), "sum": fv.Channel("conv", 1) - 0.5 * fv.Channel("stem", 3),
}  # fmt: skip
RATES = {"cppn": 0.005, "maco": 0.3}
OPTIONS = {"size": 24, "steps": 24, "transforms": [], "progress": False}


@pytest.mark.parametrize("family", EVERY)
def test_a_family_climbs_on_every_objective(family: str, tiny: fv.TappedModel) -> None:
    made = fv.render(
        tiny, list(GOALS.values()), image=EVERY[family], optimizer=fv.Adam(RATES.get(family, 0.05)), **OPTIONS
    )
    start, end = made.scores[:4].mean(0), made.scores[-4:].mean(0)
    assert dict(zip(GOALS, (end > start).tolist(), strict=True)) == dict.fromkeys(GOALS, True)


@pytest.mark.parametrize("family", [name for name in EVERY if name != "shared"])
def test_an_image_does_not_depend_on_its_batch(family: str, tiny: fv.TappedModel) -> None:
    """Bitwise, but for roundings of torch: a small image alone goes another way through convolutions and linear layers,
    and a fused Adam takes the last values of a leaf, fewer than 16, one by one."""
    options = {**OPTIONS, "steps": 3, "size": 32, "image": EVERY[family]}
    together = fv.render(tiny, list(GOALS.values()), **options).images
    two = fv.render(tiny, [GOALS["everything"], GOALS["class"]], image_ids=[2, 3], **options).images
    even = all(leaf[0].numel() % 16 == 0 for leaf in EVERY[family](1, 32).parameters())
    assert torch.equal(two, together[2:4]) if even else torch.allclose(two, together[2:4], atol=1e-6)
    alone = fv.render(tiny, GOALS["everything"], image_ids=[2], **options).images
    assert torch.allclose(alone, together[2:3], atol=1e-5)
