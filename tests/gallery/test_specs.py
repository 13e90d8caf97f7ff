"""Specs of whole layers: one for each unit that was asked for, or an error."""

from pathlib import Path

import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.gallery import expand_specs, render_specs
from tests.conftest import TinySE


class Named(nn.Module):
    """Layers whose names need quotes."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({'3"x3': nn.Conv2d(3, 4, 3), "a-b": nn.Conv2d(4, 2, 1), "7": nn.Conv2d(2, 3, 1)})
        self.se = TinySE(3).se

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs.values():
            x = conv(x)
        return self.se(x).mean((2, 3))


@pytest.fixture(scope="module")
def model() -> fv.TappedModel:
    return fv.wrap(Named().eval(), size=24)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('convs.3"x3', [f'"convs.3\\"x3":{i}' for i in range(4)]),
        ('-"convs.3\\"x3"', [f'-"convs.3\\"x3":{i}' for i in range(4)]),
        ("convs.a-b", ['"convs.a-b":0', '"convs.a-b":1']),
        (" -convs.7 ", ["-convs.7:0", "-convs.7:1", "-convs.7:2"]),
        ("gate:se", ["gate:se:0", "gate:se:1", "gate:se:2"]),
        ("gate:se:[0:2]", ["gate:se:[0:2]"]),
    ],
)
def test_a_layer_is_replaced_by_its_units(model: fv.TappedModel, text: str, expected: list[str]) -> None:
    specs = expand_specs(model, [text])
    assert specs == expected
    for spec in specs:
        assert repr(fv.parse(spec)) == spec.replace("[0:2]", "[0, 1]")
        assert fv.evaluate(model, spec, torch.rand(fv.parse(spec).n, 3, 24, 24)).scores.isfinite().all()


@pytest.mark.parametrize(
    ("text", "units", "message"),
    [
        ("convs.a-b", range(1000), "unit 2 of 'convs.a-b' was asked for; it has 2: 0 to 1"),
        ("-convs.7", [0, 3], "unit 3 of 'convs.7' was asked for; it has 3: 0 to 2"),
        ("gate:se", range(10**12), "unit 3 of 'gate:se' was asked for; it has 3: 0 to 2"),
        ("-gate:se", [-1], "unit -1 of 'gate:se'"),
        ('"convs.3\\"x3"', [4], "it has 4: 0 to 3"),
    ],
)
def test_units_beyond_the_layer_are_an_error(
    model: fv.TappedModel, text: str, units: list[int] | range, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand_specs(model, ["convs.7:0", text], units)
    assert message in str(caught.value)


def test_a_range_in_a_gallery_is_one_tile_for_each_unit(model: fv.TappedModel, tmp_path: Path) -> None:
    render_specs(model, ["convs.7:[0:3]", "-gate:se:1"], tmp_path, steps=1, size=24, progress=False)
    page = (tmp_path / "index.html").read_text()
    assert all(f'alt="{spec}"' in page for spec in ("convs.7:0", "convs.7:1", "convs.7:2", "-gate:se:1"))
