"""How much white noise changes what each layer does: the share r(s) for noise of sd s.

    python -m benchmarks.studies.clarity.response [--weights WEIGHTS.safetensors]

r(s) = |A(x + s n) - A(x)| / |A(x) - mean A|, root mean squares over images, channels and positions; the mean is that of
each channel. x are 24 images of pink noise with the contrast of photographs.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import featureviz as fv
from benchmarks.studies.clarity.networks import LAYERS, load_networks

SDS, COUNT, CONTRAST = (0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1), 24, 0.2


def make_pink_noise(size: tuple[int, int]) -> Tensor:
    """``[24,3,H,W]`` whose amplitudes fall as 1/f, with an sd of about 0.2 in an image."""
    low, high = 0.01, 1.0  # of the coefficients
    for _ in range(12):
        sd = (low * high) ** 0.5
        contrast = fv.FourierImage(4, size, sd=sd, seed=5)().flatten(1).std(1).mean()
        low, high = (sd, high) if contrast < CONTRAST else (low, sd)
    return fv.FourierImage(COUNT, size, sd=low, seed=5)().detach()


@torch.no_grad()
def measure_response(model: fv.TappedModel, layer: str, images: Tensor) -> list[float]:
    """r for each of ``SDS``."""
    clean, generator = model(images, [layer])[layer], torch.Generator().manual_seed(1)
    dims = [d for d in range(clean.ndim) if d != 1]
    spread, shares = clean.var(dims).sum(), list[float]()
    for sd in SDS:
        noisy = model(images + sd * torch.randn(images.shape, generator=generator), [layer])[layer]
        shares.append(float(((noisy - clean).square().mean(dims).sum() / spread).sqrt()))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="of the real network (default: leave it out)")
    args = parser.parse_args()
    print(f"{'sd':36}", *(f"{sd:5}" for sd in SDS))
    for name, load in load_networks(list(LAYERS), args.weights).items():
        model = load()
        if model is None:
            print(f"{name} is left out: it wants --weights, or a package that is not installed")
            continue
        images = make_pink_noise(model.input_size((128, 128)))
        for layer in LAYERS[name]:
            print(f"{name} {layer:28}", *(f"{share:5.2f}" for share in measure_response(model, layer, images)))


if __name__ == "__main__":
    main()
