"""How natural pictures look to the gates themselves."""

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.errors import InvalidInput

SITE = "features.3.block.2"


def smooth(n: int, seed: int) -> Tensor:
    """Pictures that differ in a few large patches."""
    patches = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(patches, 96, mode="bilinear")


@pytest.fixture(scope="module")
def natural(embedded: fv.TappedModel) -> fv.lab.GateStatistics:
    return fv.lab.GateStatistics.measure(embedded, smooth(120, 1))


def test_pictures_of_the_kind_that_was_measured_are_at_distance_one(
    embedded: fv.TappedModel, natural: fv.lab.GateStatistics
) -> None:
    own = fv.lab.natural_distance(embedded, smooth(120, 1), natural)
    assert abs(float(own.square().mean().sqrt()) - 1) < 0.05
    assert abs(float(fv.lab.natural_distance(embedded, smooth(20, 2), natural).mean()) - 1) < 0.2
    noise = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert (fv.lab.natural_distance(embedded, noise, natural) > 2).all()


def test_a_picture_does_not_depend_on_its_batch(embedded: fv.TappedModel, natural: fv.lab.GateStatistics) -> None:
    many = fv.lab.natural_distance(embedded, smooth(40, 3), natural)
    assert torch.allclose(many[37:38], fv.lab.natural_distance(embedded, smooth(40, 3)[37], natural), atol=1e-4)


def test_a_natural_picture_takes_the_path_of_natural_pictures_and_noise_does_not(
    embedded: fv.TappedModel, natural: fv.lab.GateStatistics
) -> None:
    pictures, units = smooth(120, 1), list(range(12))
    best = natural[SITE].logit_sample[:, units].argmax(0)
    top = pictures[natural.sample[best]]
    noise = torch.rand(12, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    of_top, of_noise = (fv.lab.path_scores(embedded, SITE, units, x, natural) for x in (top, noise))
    assert float(of_top.median()) > 0.6
    assert float(of_noise.median()) < 0.5 * float(of_top.median())


def test_what_cannot_be_compared_is_explained(embedded: fv.TappedModel, natural: fv.lab.GateStatistics) -> None:
    assert fv.lab.path_scores(embedded, "features.1.block.2", [0], smooth(1, 0), natural).isnan().all()
    with pytest.raises(InvalidInput, match="compact"):
        fv.lab.path_scores(embedded, SITE, [0], smooth(1, 0), fv.lab.natural_gates())
    with pytest.raises(InvalidInput, match="expected statistics"):
        fv.lab.natural_distance(embedded, smooth(1, 0), None)  # pyright: ignore[reportArgumentType]
