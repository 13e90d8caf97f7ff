"""What a rendering writes, and what a notebook shows of it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.rendering.png import make_contact_sheet
from tests.rendering.test_render import quick


def test_saved_pictures_carry_their_recipe(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = quick(tiny, "[conv:1, -gate:se:2]")
    paths = made.save(tmp_path / "new" / "pair.png")
    assert [p.name for p in paths] == ["pair-0.png", "pair-1.png"]
    recipe = fv.read_recipe(paths[1])
    assert recipe["spec"] == "-gate:se:2"
    assert recipe["image_ids"] == [1]
    assert recipe["seed"] == 0
    assert recipe["versions"]["featureviz"] == fv.__version__
    shown = np.asarray(Image.open(paths[0])).astype(np.float32) / 255
    assert np.abs(shown.transpose(2, 0, 1) - made.images[0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert [p.name for p in quick(tiny, "conv:1").save(str(tmp_path / "features.6"))] == ["features.6.png"]
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "bare.png")
    with pytest.raises(InvalidInput, match="holds no featureviz recipe"):
        fv.read_recipe(tmp_path / "bare.png")


def test_nothing_is_half_written(tiny: fv.TappedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = quick(tiny, "conv:1")
    with pytest.raises(InvalidInput, match="cannot write"):
        made.save(tmp_path / "file" / "x.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(InvalidInput, match="cannot write"):
        made.save(tmp_path / "taken.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]


def test_it_shows_itself_in_a_notebook(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "[conv:1, conv:2, logit:1]")
    sheet = Image.open(io.BytesIO(made._repr_png_()))
    assert sheet.size == (24 * 2 + 4, 24 * 2 + 4)
    assert json.loads(sheet.info["featureviz"])["model"] == "TinySE"
    page = made._repr_html_()
    assert page.count("<img") == 3
    assert "logit:1" in page
    assert make_contact_sheet(made.images, columns=3).shape == (3, 24, 80)
