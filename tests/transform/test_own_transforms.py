"""Transforms of the caller's: they are copied, and one that breaks its contract is named with what is wrong."""

import copy
from collections.abc import Callable
from typing import Any

import kornia
import pytest
import torch
from torch import Tensor, nn

from featureviz import Rng
from featureviz.errors import InvalidInput
from featureviz.transform import Jitter, Noise, Pipeline, Transform, Warp, robust
from featureviz.transform.pipeline import list_transforms


class Own(Transform):
    """What is drawn and what is done are given."""

    def __init__(
        self, transform: Callable[[Tensor], Any] = lambda x: x, draw: Callable[[Rng], Any] = lambda rng: ()
    ) -> None:
        super().__init__()
        self.drawn, self.done = draw, transform

    def draw(self, rng: Rng, size: tuple[int, int]) -> tuple[Tensor, ...]:
        return self.drawn(rng)

    def transform(self, images: Tensor, draw: tuple[Tensor, ...]) -> Tensor:
        return self.done(images)


class OwnWarp(Warp):
    def __init__(self, matrix: Callable[[int], Any]) -> None:
        super().__init__()
        self.made = matrix

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return self.made(len(rng))


def views(stage: Transform) -> Tensor:
    x = torch.rand(2, 3, 20, 20, requires_grad=True)
    return Pipeline([Jitter(2), stage, Noise()])(x, Rng(0, 2, views=3), (16, 16))


@pytest.mark.parametrize(
    "stage",
    [
        Own(), Own(lambda x: x.flip(-1)), Own(lambda x: x * 0.5, lambda rng: (rng.uniform(), rng.normal((3, 4)))),
        OwnWarp(lambda m: torch.eye(3).expand(m, -1, -1)), OwnWarp(lambda m: torch.eye(3).repeat(m, 1, 1).double()),
    ],
)  # fmt: skip
def test_what_keeps_the_contract_works(stage: Transform) -> None:
    assert views(stage).shape == (6, 3, 16, 16)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Own(draw=lambda rng: rng.uniform()), r"Own.draw gave \[6\] of torch.float32.*expected a tuple of tensors"),
        (Own(draw=lambda rng: [rng.uniform()]), "Own.draw gave"),
        (Own(draw=lambda rng: None), "Own.draw gave None"),
        (Own(draw=lambda rng: (0.5,)), r"Own.draw gave \['0.5'\]"),
        (Own(draw=lambda rng: (rng.uniform()[:2],)), "expected a tuple of tensors with 6 rows"),
        (Own(draw=lambda rng: (torch.tensor(0.5),)), "expected a tuple of tensors with 6 rows"),
        (Own(lambda x: None), "Own.transform turned .* into None"),
        (Own(lambda x: (x,)), "Own.transform turned"),
        (Own(lambda x: x[:1]), r"turned \[6, 3, 16, 16\] .* into \[1, 3, 16, 16\]"),
        (Own(lambda x: x.repeat(2, 1, 1, 1)), r"into \[12, 3, 16, 16\]"),
        (Own(lambda x: x[..., 1:]), r"into \[6, 3, 16, 15\].*must keep the size"),
        (Own(lambda x: x[:, :1]), r"into \[6, 1, 16, 16\]"),
        (Own(lambda x: x.double()), "into .* of torch.float64"),
        (Own(lambda x: (255 * x).byte()), "into .* of torch.uint8"),
        (Own(lambda x: x.to("meta")), "into .* on meta"),
        (Own(lambda x: x.detach()), "passes no gradient to the image"),
        (OwnWarp(lambda m: torch.eye(3)), r"OwnWarp.matrix gave \[3, 3\].*expected \[6,3,3\] of floats on cpu"),
        (OwnWarp(lambda m: torch.eye(3)[None]), r"OwnWarp.matrix gave \[1, 3, 3\]"),
        (OwnWarp(lambda m: torch.zeros(m, 2, 3)), r"OwnWarp.matrix gave \[6, 2, 3\]"),
        (OwnWarp(lambda m: torch.zeros(m, 3, 3).long()), "OwnWarp.matrix gave .* of torch.int64"),
        (OwnWarp(lambda m: torch.zeros(m, 3, 3, device="meta")), "OwnWarp.matrix gave .* on meta"),
        (OwnWarp(lambda m: [[1, 0, 0]]), "OwnWarp.matrix gave"),
    ],
)
def test_what_breaks_the_contract_is_named(stage: Transform, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        views(stage)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Own(lambda x: x / 0), "Own.transform gave values that are not finite"),
        (Own(lambda x: x * torch.nan), "Own.transform gave values that are not finite"),
        (OwnWarp(lambda m: torch.full((m, 3, 3), torch.inf)), "OwnWarp.matrix gave values that are not finite"),
        (OwnWarp(lambda m: torch.full((m, 3, 3), torch.nan)), "OwnWarp.matrix gave values that are not finite"),
    ],
)
def test_a_check_names_what_is_not_finite(stage: Transform, message: str) -> None:
    pipeline, x, rng = Pipeline([*robust(), stage, Noise()]), torch.rand(2, 3, 20, 20), Rng(0, 2)
    assert pipeline(x, rng, (16, 16)).isnan().any() or pipeline(x, rng, (16, 16)).isinf().any()
    with pytest.raises(InvalidInput, match=message):
        pipeline.check(x, rng, (16, 16))
    Pipeline(robust()).check(x, rng, (16, 16))


@pytest.mark.parametrize(
    "given", ["robust", Jitter(8), 8, Jitter, [Jitter], [nn.ReLU()], [None], [[Jitter(8)]], {"jitter": Jitter(8)}]
)
def test_what_is_no_list_of_transforms_is_named(given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected a (list of transforms|featureviz Transform)"):
        list_transforms(given)


def test_none_are_the_default_and_kornia_becomes_ours() -> None:
    assert repr(list_transforms(None)) == repr(robust())
    assert list_transforms([]) == []
    (ours,) = list_transforms(iter([kornia.augmentation.RandomErasing()]))
    assert isinstance(ours, Transform)


# --------------------------------------------------------------------------------------------------- nothing is touched
class Learns(Transform):
    """It has a buffer, counts its calls, and is moved by ``to``."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.calls = nn.Buffer(torch.ones(1)), 0

    def draw(self, rng: Rng, size: tuple[int, int]) -> tuple[Tensor, ...]:
        self.calls += 1
        return ()

    def transform(self, images: Tensor, draw: tuple[Tensor, ...]) -> Tensor:
        return images * self.mask.to(images)


@pytest.mark.parametrize("other", [torch.float64, torch.bfloat16, "meta"])
def test_the_callers_transforms_are_never_moved_or_changed(other: Any) -> None:
    mine = Learns()
    before = copy.deepcopy(mine)
    pipeline = Pipeline([mine, Jitter(2), mine])
    pipeline(torch.rand(1, 3, 8, 8), Rng(0, 1), (8, 8))
    pipeline.to(other)
    assert (mine.mask.dtype, mine.mask.device, mine.calls) == (before.mask.dtype, before.mask.device, 0)
    first, _, last = pipeline.transforms
    assert first is last
    assert first is not mine


def test_a_transform_that_cannot_be_copied_is_named() -> None:
    mine = Own()
    mine.file = (n for n in range(3))
    with pytest.raises(InvalidInput, match="cannot be copied"):
        Pipeline([mine])


@pytest.mark.parametrize("fails", [False, True])
def test_no_generator_of_the_callers_is_moved(fails: bool) -> None:
    """That of the CPU here; those of other devices are restored in the same way."""
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    stages = [kornia.augmentation.RandomErasing(p=1.0)] + [kornia.augmentation.CenterCrop(4)] * fails
    for device in ("cpu", *devices[:1]):
        x = torch.full((2, 3, 8, 8), 0.5, device=device)
        before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        try:
            Pipeline(stages).to(device)(x, Rng(0, 2, device=device), (8, 8))
        except InvalidInput:
            assert fails
        after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
