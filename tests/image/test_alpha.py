"""Images with transparency through the whole engine: backgrounds, objectives of alpha, held-out scores, RGBA files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featureviz as fv
import objectives_zoo as zoo
from featureviz.errors import InvalidInput
from featureviz.transform import Jitter, Pipeline

GOAL = "conv:1"
QUICK = {"size": 24, "progress": False}


def test_every_view_lies_on_a_background_of_its_own() -> None:
    clear, pipeline = torch.zeros(2, 4, 20, 24), Pipeline([Jitter(2)], alpha=True)
    views = pipeline(clear, fv.Rng(0, 2, views=3), (16, 16))
    assert views.shape == (6, 3, 16, 16)
    assert len({view.numpy().tobytes() for view in views}) == 6
    assert 0.12 < views.std() < 0.3  # of photographs: about 0.2
    rng = fv.Rng(0, 2, views=3)
    rng.advance()
    assert not torch.equal(pipeline(clear, rng, (16, 16)), views)
    opaque = torch.cat([torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16)], 1)
    assert torch.equal(Pipeline([], alpha=True)(opaque, fv.Rng(0, 2), (16, 16)), opaque[:, :3])


def test_a_render_with_alpha_is_a_png_with_alpha(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = fv.render(tiny, [GOAL, "conv:2"], image=fv.AlphaImage, steps=3, **QUICK)
    assert made.images.shape == (2, 4, 24, 24)
    assert made.held_out.scores.shape == (16, 2)
    assert made.alpha
    for path, image in zip(made.save(tmp_path / "a.png"), made.images, strict=True):
        with Image.open(path) as read:
            assert read.mode == "RGBA"
            pixels = torch.from_numpy(np.array(read)).movedim(-1, 0)
        assert (pixels / 255 - image).abs().max() < 0.5 / 255 + 1e-6
        assert fv.read_recipe(path)["alpha"] is True
    assert not list(tmp_path.glob("*.npy"))
    assert made._repr_png_()
    alone = fv.render(tiny, "conv:2", image=fv.AlphaImage, steps=3, image_ids=[1], **QUICK)
    assert torch.allclose(alone.images[0], made.images[1], atol=1e-5)


def test_objectives_read_alpha(tiny: fv.TappedModel) -> None:
    less = -fv.Channel(".alpha", 0) - 0.01 * zoo.total_variation(".alpha")
    made = fv.render(tiny, less, image=fv.AlphaImage, steps=20, **QUICK)
    assert made.images[:, 3].mean() < 0.45
    assert made.held_out.scores.mean() > made.scores[0].mean()
    both = fv.Channel("conv", 1) * (1 - fv.Channel(".alpha", 0))
    assert torch.isfinite(fv.render(tiny, both, image=fv.AlphaImage, steps=2, **QUICK).scores).all()
    with pytest.raises(InvalidInput, match=r"reads the alpha channel '.alpha'.*give image=fv.AlphaImage"):
        fv.render(tiny, less, steps=2, **QUICK)


def test_only_what_the_unit_needs_becomes_opaque(embedded: fv.TappedModel) -> None:
    goal = fv.Channel("features.6", 17) * (1 - fv.Channel(".alpha", 0))
    made = fv.render(embedded, goal, image=fv.AlphaImage, steps=24, size=48, progress=False)
    assert made.scores[-3:].mean() > 1.5 * made.scores[:3].mean()


def test_maco_shows_what_mattered(tiny: fv.TappedModel) -> None:
    options = fv.maco(4, size=32)
    made = fv.render(tiny, [GOAL, "conv:2"], **options, progress=False)
    assert made.slope is not None
    assert made.slope.shape == (2, 32, 32)
    seen = made.transparent()
    assert torch.equal(seen[:, :3], made.images)
    assert (seen[:, 3] == 1).float().mean() == pytest.approx(0.2, abs=0.02)
    alone = fv.render(tiny, "conv:2", **options, image_ids=[1], progress=False)
    assert alone.slope is not None
    assert torch.equal(alone.slope[0], made.slope[1])
    devices = fv.render(tiny, [GOAL, "conv:2"], **options, device=["cpu", "cpu"], progress=False)
    assert devices.slope is not None
    assert torch.equal(devices.slope, made.slope)
    with pytest.raises(InvalidInput, match="FourierImage keeps no slope"):
        fv.render(tiny, GOAL, steps=1, **QUICK).transparent()


@pytest.mark.parametrize("make", [fv.SharedImage])
def test_images_that_share_leaves_render_together(tiny: fv.TappedModel, make: type[fv.SharedImage]) -> None:
    made = fv.render(tiny, [GOAL, "conv:2", "conv:3"], image=make, steps=3, **QUICK)
    assert made.scores.shape == (3, 3)
    with pytest.warns(RuntimeWarning, match="SharedImage looks across the batch"):
        fv.render(tiny, [GOAL, "conv:2"], image=make, steps=1, device=["cpu", "cpu"], **QUICK)
