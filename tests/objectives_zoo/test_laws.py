"""The laws of every entry of the zoo: one table, one battery."""

import copy

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import featureviz as fv
import objectives_zoo as zoo
from tests.conftest import TinySE
from tests.objectives_zoo.entries import ALPHA, CASES, GATE, MAP, SHAPES, TOKENS, Case, make_acts

PAIRS = [(name, layout) for name, case in CASES.items() for layout in case.layouts]
each = pytest.mark.parametrize(("name", "layout"), PAIRS, ids=[f"{name}-{layout}" for name, layout in PAIRS])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture that is not noise: a disc on a ramp."""
    y, x = np.mgrid[:24, :24] / 24
    disc = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    iio.imwrite(path, (255 * np.stack([np.where(disc, 0.9, 0.1), x, y], 2)).astype(np.uint8))
    return str(path)


def make(name: str, layout: str, photo: str) -> fv.Objective:
    return CASES[name].make(layout, 6, photo)


def random_like(layout: str, n: int, seed: int = 0) -> Tensor:
    return 0.5 * torch.randn(n, *SHAPES[layout], generator=torch.Generator().manual_seed(seed))


def by_position(layout: str, x: Tensor) -> Tensor:
    """``[M,C,P]``."""
    x = x.mT if layout == TOKENS else x
    return x.flatten(2) if x.ndim > 2 else x[:, :, None]


def test_every_entry_is_in_the_table() -> None:
    assert set(CASES) == {n for n, entry in fv.zoo.installed().items() if entry.source.startswith("objectives_zoo")}


@each
def test_its_text_reads_back(name: str, layout: str, photo: str) -> None:
    goal, target = make(name, layout, photo), random_like(layout, 1, 1)
    acts = make_acts(layout, random_like(layout, 3), target)
    for whole in (goal, -2 * goal + 1, goal * goal):
        for again in (fv.parse(repr(whole)), copy.deepcopy(whole)):
            assert repr(again) == repr(whole)
            assert torch.equal(again(acts), whole(acts))
            assert (again.layers, again.n, again.across_batch) == (whole.layers, whole.n, whole.across_batch)


@each
def test_a_row_depends_on_its_own_row_alone_and_has_a_gradient(name: str, layout: str, photo: str) -> None:
    goal, x = make(name, layout, photo), random_like(layout, 6).requires_grad_()
    target = random_like(layout, 1, 1)
    score = goal(make_acts(layout, x, target, views=2))
    assert score.shape == (6,)
    (gradient,) = torch.autograd.grad(score[3], x)
    assert gradient.isfinite().all()
    assert gradient[3].abs().max() > 0
    others = gradient[[0, 1, 2, 4, 5]].abs().max()
    assert (others > 0) == goal.across_batch
    if not goal.across_batch:
        alone = goal.select([1])(make_acts(layout, x.detach()[2:4], target, views=2))
        assert torch.allclose(alone, score.detach()[2:4], atol=1e-6)


@each
def test_its_gradient_is_that_of_its_value(name: str, layout: str, photo: str) -> None:
    if not CASES[name].smooth:
        return  # a gradient that is stopped on purpose: test_formulas has it
    goal, target = make(name, layout, photo).double(), random_like(layout, 1, 1).double()
    x = random_like(layout, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: goal(make_acts(layout, x, target)), x)


@each
def test_it_finds_a_planted_optimum(name: str, layout: str, photo: str) -> None:
    goal, target = make(name, layout, photo), random_like(layout, 1, 1).clamp(-0.9, 0.9)
    x = (0.3 * random_like(layout, 1, 2) + 0.1 * random_like(layout, 3, 3)).requires_grad_()
    found = CASES[name].found
    before = by_position(layout, x.detach()), by_position(layout, target.expand_as(x))
    assert not found(*before)
    optimizer = torch.optim.Adam([x], lr=0.03)
    for _ in range(250):
        (x.grad,) = torch.autograd.grad(-goal(make_acts(layout, x, target)).sum(), x)
        optimizer.step()
        with torch.no_grad():
            x.clamp_(-1, 1)
    assert found(by_position(layout, x.detach()), before[1])


class TinyResNet(nn.Module):
    """Two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 6, 5, 2), nn.Conv2d(6, 6, 3, 1, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.block(x)).relu().mean((2, 3)))


NETS = {
    "resnet": (TinyResNet, "block", MAP, 6),
    "se": (TinySE, "conv", MAP, 8),
    "vit": (lambda: VisionTransformer(24, 8, 1, 2, 12, 16, num_classes=5), "encoder.layers", TOKENS, 12),
}  # fmt: skip
CLIMBS = [
    (name, net) for name, case in CASES.items() for net, (_, _, layout, _) in NETS.items()
    if layout in case.layouts or (GATE in case.layouts and net == "se")
]  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, fv.TappedModel]:
    torch.manual_seed(0)
    return {name: fv.wrap(make(), mean=0.5, std=0.25, size=24) for name, (make, *_) in NETS.items()}


def walk(image: fv.Parameterization, steps: int) -> list[Tensor]:
    """``[n,3,24,24]`` before and after as many random steps of an ascent's size."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = image().clone()
        for leaf in image.parameters():
            leaf += sum(0.02 * torch.randn(leaf.shape, generator=generator).sign() for _ in range(steps))
        return [before, image()]


@pytest.mark.parametrize(("name", "net"), CLIMBS, ids=[f"{name}-{net}" for name, net in CLIMBS])
def test_it_climbs(name: str, net: str, models: dict[str, fv.TappedModel], photo: str) -> None:
    """From noise towards a picture; without one, from a picture, since noise is almost as flat as flat can be."""
    case, (_, layer, _, channels), steps = CASES[name], NETS[net], 24
    goal: fv.Objective = case.make(layer, channels, photo)
    n, paired = max(case.images, goal.n), any(isinstance(part, zoo.PairedObjective) for part in goal.modules())
    start = fv.FourierImage(n, 24) if paired else fv.FourierImage(n, image=fv.check_pictures(photo))
    if case.images > goal.n:  # a batch of images that differ
        start = fv.FourierImage(image=torch.rand(n, 3, 24, 24, generator=torch.Generator().manual_seed(0)))
    if ALPHA in goal.layers:
        start = fv.AlphaImage(n, 24)
    options = {"steps": steps, "image": start, "optimizer": fv.Adam(0.02), "progress": False}
    images = fv.render(models[net], goal, **options).images
    judged = goal.goal if isinstance(goal, zoo.Decay) else goal
    scores = [fv.evaluate(models[net], judged, x).scores.mean() for x in (images, *walk(start, steps))]
    assert scores[0] > max(scores[1:])


@pytest.mark.parametrize("image", [fv.FourierImage, fv.AlphaImage])
def test_images_of_a_batch_are_those_alone(
    image: type[fv.Parameterization], models: dict[str, fv.TappedModel], photo: str
) -> None:
    """Paired pictures and schedules too: image i has its own draws, whatever else is in the batch."""
    cases: dict[str, Case] = {name: case for name, case in CASES.items() if case.images == 1 and MAP in case.layouts}
    goals = [case.make("conv", 8, photo) for case in cases.values()]
    goals = [goal for goal in goals if ALPHA not in goal.layers or image.alpha]
    options = {"steps": 5, "size": 24, "views": 2, "progress": False, "image": image}
    batch = fv.render(models["se"], goals, **options).images
    for i in range(0, len(goals), 3):
        alone = fv.render(models["se"], goals[i], image_ids=[i], **options).images
        assert torch.allclose(alone[0], batch[i], atol=2e-6), goals[i].spec
