"""Views that no ascent makes: compressed, blurred, cropped."""

import io

import kornia
import numpy as np
import pytest
import torch
from PIL import Image

from featureviz.transform.unseen import blur, compress, unseen


def picture(channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, 24, 31, generator=torch.Generator().manual_seed(0))


def test_compressed_is_what_a_jpeg_file_keeps() -> None:
    data = io.BytesIO()
    array = (255 * picture()[0]).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(data, "JPEG", quality=75)
    kept = torch.from_numpy(np.array(Image.open(data))).permute(2, 0, 1) / 255
    assert (compress(picture())[0] - kept).abs().max() < 0.05  # of two decoders
    assert (compress(picture()) - picture()).abs().mean() > 0.02


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_channels_are_grey_pictures(channels: int) -> None:
    out = compress(picture(channels))
    assert out.shape == picture(channels).shape
    if channels == 4:
        assert torch.equal(out[1, 2:3], compress(picture(4)[1:2, 2:3])[0])


def test_blurred_is_kornias() -> None:
    expected = kornia.filters.gaussian_blur2d(picture(), (7, 7), (1.0, 1.0), border_type="replicate")
    assert torch.allclose(blur(picture()), expected, atol=1e-6)
    assert torch.allclose(blur(torch.ones(1, 3, 2, 1)), torch.ones(1, 3, 2, 1))


def test_each_kind_keeps_the_size() -> None:
    assert all(kind.change(picture()).shape == picture().shape for kind in unseen().values())
