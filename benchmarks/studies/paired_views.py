"""Does it matter that the picture of a feature inversion is seen through the same draws as the image?

For each of three pictures: the relative error ``|a - t|^2 / |t|^2`` of the finished image, both seen as they are, after
an ascent without transforms, with transforms of the image alone, with draws of its own for each, with the same draws.

    python -m benchmarks.studies.paired_views --layer features.6 --steps 128
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import featureviz as fv
import objectives_zoo as zoo
from featureviz.transform import Pipeline, robust


class Unpaired(fv.Objective):
    """Feature inversion towards activations ``[S,N,P]`` that have nothing to do with the draws of the image."""

    def __init__(self, layer: str, targets: Tensor) -> None:
        super().__init__([layer], "unpaired", n=targets.shape[1])
        self.targets = nn.Buffer(targets)

    def forward(self, activations: fv.Activations) -> Tensor:
        a, rows = activations.views_first(self.layers[0]).flatten(1), activations.rows
        step = torch.zeros((), dtype=torch.int64) if rows.step is None else rows.step
        t = self.targets[step % len(self.targets)][rows.image]
        return -(a - t).square().sum(1) / t.square().sum(1)

    def select(self, images: Sequence[int]) -> fv.Objective:
        return Unpaired(self.layers[0], self.targets[:, list(images)])


@torch.no_grad()
def draw_targets(model: fv.TappedModel, layer: str, pictures: Tensor, count: int) -> Tensor:
    """``[count,N,P]``: the pictures' activations through draws of their own."""
    pipeline, size = Pipeline(robust()), model.input_size((pictures.shape[-2], pictures.shape[-1]))
    seen = [pipeline(pictures, fv.Rng(99, len(pictures), step=i), size) for i in range(count)]
    return torch.stack([model(x, [layer])[layer].flatten(1) for x in seen])


def make_pictures(model: fv.TappedModel, size: int) -> Tensor:
    """``[3,3,size,size]``: renders of three channels, which have edges, colours and places."""
    return fv.render(model, "features.6:[3, 17, 30]", size=size, steps=64, progress=False).images


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layer", default="features.6")
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--size", type=int, default=96)
    args = parser.parse_args()
    model = fv.load("embedded")
    pictures = make_pictures(model, args.size)
    goal, options = zoo.FeatureInversion(args.layer, pictures), {"steps": args.steps, "size": args.size}
    with torch.no_grad():
        still = model(pictures, [args.layer])[args.layer].flatten(1)[None]
    own = draw_targets(model, args.layer, pictures, 64)
    means = dict[str, float]()
    ways = {
        "no transforms": (goal, []), "target as it is": (Unpaired(args.layer, still), None),
        "draws of its own": (Unpaired(args.layer, own), None), "the same draws": (goal, None),
    }  # fmt: skip
    for name, (objective, transforms) in ways.items():
        images = fv.render(model, objective, transforms=transforms, progress=False, **options).images
        with torch.no_grad():
            errors = -goal(model(images, [args.layer]))
        means[name] = float(errors.mean())
        print(f"{name:16} {means[name]:.3f}   ({', '.join(f'{e:.3f}' for e in errors.tolist())})")
    print(f"the same draws / draws of its own = {means['the same draws'] / means['draws of its own']:.2f}")


if __name__ == "__main__":
    main()
