"""Distil the embedded network from EfficientNet-Lite0, from image folders to the weights in the package.

    pip install -e '.[train]'
    apt-get install tuxpaint-stamps-default plasma-workspace-wallpapers gnome-backgrounds mate-backgrounds \
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers ufoai-textures unzip
    unzip -d textures /usr/share/games/ufoai/base/0textures.pk3 \
        'textures/tex_[bmnsp]*' 'textures/tex_furniture/*' -x '*_nm.*' '*_sm.*' '*_gm.*' '*_lm.*'
    python scripts/train_embedded.py teach  --work build/embedded    # make composites and the teacher's outputs
    python scripts/train_embedded.py train  --work build/embedded    # train; a second call resumes
    python scripts/train_embedded.py export --work build/embedded    # write weights, gate statistics, model card
    python scripts/train_embedded.py gates  --work build/embedded    # only measure the gate statistics again

Knowledge distillation (Hinton et al. 2015) with feature hints (Romero et al. 2015, FitNets). The student's input is a
picture of 96 px, the teacher's the same picture of 192 px, so that the teacher's strides 8, 16 and 32 correspond to the
student's 4, 8 and 16. ``--photos`` and ``--objects`` take any folders; objects are pictures with an alpha channel. One
source in seven is held out: all figures of ``export`` are measured on composites of held-out sources.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from composites import OBJECTS, PHOTOS, TAPS, Composites, Store, Teacher, read_sources
from torch import Tensor, nn
from tqdm import tqdm

from featureviz.lab import GateStatistics
from featureviz.models import embedded
from featureviz.models.embedded import embedded_net
from featureviz.options import run_command

Standards = list[tuple[Tensor, Tensor]]  # for each tap the mean and standard deviation of the teacher's features


def teach(args: argparse.Namespace) -> None:
    import torch._inductor.config as inductor

    inductor.freezing = True
    teacher = Teacher().to(memory_format=torch.channels_last)
    run = torch.compile(teacher) if args.compile else teacher
    for name, held_out, count in (("train", False, args.images), ("held_out", True, args.held_out)):
        store, step = Store(args.work / name, count), 64
        photos, objects = read_sources(args.photos, False, held_out), read_sources(args.objects, True, held_out)
        print(f"{name}: {len(photos)} photographs, {len(objects)} objects, {store.done} of {count} composites are done")
        (args.work / name / "sources.json").write_text(
            json.dumps({"photographs": len(photos), "objects": len(objects)})
        )
        composites = Composites(photos, objects, count, seed=int(held_out))
        todo = torch.utils.data.Subset(composites, range(store.done, count))
        start = store.done
        for bytes_ in tqdm(torch.utils.data.DataLoader(todo, step, num_workers=1, prefetch_factor=8), desc=name):
            pictures = bytes_.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                features, logits = run(pictures)
            small = F.avg_pool2d(pictures, 2).round().byte().permute(0, 2, 3, 1)
            store.write(start, small, features, logits)
            start += len(pictures)


# ----------------------------------------------------------------------------------------------------- student
class Student(nn.Module):
    """The embedded network with a 1x1 projection for each tap, which only training uses."""

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


def split_taps(features: Tensor) -> Iterator[Tensor]:
    """The flattened features of each tap, ``[N,C,S*S]``."""
    sizes = [c * s * s for _, c, s in TAPS.values()]
    for tap, (_, c, _) in zip(features.split(sizes, 1), TAPS.values(), strict=True):
        yield tap.unflatten(1, (c, -1))


def measure_standards(store: Store) -> Standards:
    rows = np.arange(0, store.done, max(1, store.done // 2048))
    return [(t.mean((0, 2), keepdim=True), t.std((0, 2), keepdim=True)) for t in split_taps(store.batch(rows)[1])]


def compute_losses(
    student: Callable[[Tensor], Any], batch: tuple[Tensor, Tensor, Tensor], scale: Standards
) -> list[Tensor]:
    """The squared error of each tap in units of its variance, then the divergence from the teacher's soft labels."""
    x, features, logits = batch
    guesses, answer = student(x)
    errors = [F.mse_loss(g, (t - m) / s) for g, t, (m, s) in zip(guesses, split_taps(features), scale, strict=True)]
    divergence = F.kl_div(answer.log_softmax(1), logits.log_softmax(1), log_target=True, reduction="batchmean")
    return [*errors, divergence]


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
    scale, start = measure_standards(store), 0
    parts = {"student": student, "average": average, "optimizer": optimizer, "schedule": schedule}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        start = saved["step"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    run, began = torch.compile(student) if args.compile else student, time.time()
    for step in range(start, args.steps):
        rows = np.sort(np.random.default_rng((2, step)).integers(0, store.done, args.batch))
        *errors, divergence = compute_losses(run, store.batch(rows), scale)
        loss = sum(errors) + 0.3 * divergence
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(student)
        if step % 50 == 0:
            explained, seconds = " ".join(f"{1 - e.item():.3f}" for e in errors), time.time() - began
            print(f"step {step} explained {explained} divergence {divergence.item():.3f} {seconds:.0f} s", flush=True)
        if step % 250 == 249 or step == args.steps - 1:
            torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, checkpoint)


# ------------------------------------------------------------------------------------------------------ export
def export(args: argparse.Namespace) -> None:
    """Write the averaged weights into the package in half precision, and measure them on held-out composites."""
    package = Path(embedded.__file__).parent
    saved = torch.load(args.work / "checkpoint.pt", weights_only=True)
    state = {k.removeprefix("module."): v for k, v in saved["average"].items() if k.startswith("module.")}
    student = Student()
    student.load_state_dict(state)
    reset_batch_norm(student, Store(args.work / "train", args.images))
    student.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in student.state_dict().items()}
    )
    weights = {k: v.half() if v.is_floating_point() else v for k, v in student.net.state_dict().items()}
    torch.save(weights, package / "embedded.pt")
    held_out = Store(args.work / "held_out", args.held_out)
    chunks = np.array_split(np.arange(held_out.done), held_out.done // 250)
    agreement = measure_agreement(student, held_out, measure_standards(Store(args.work / "train", args.images)), chunks)
    statistics = measure_gates(args)
    card = Path(__file__).parents[1] / "docs" / "embedded.md"
    text = card.read_text()
    begin, end = text.index("<!-- measured -->"), text.index("<!-- end -->")
    table = make_tables(saved["step"], args, agreement, statistics)
    card.write_text(text[:begin] + "<!-- measured -->\n" + table + text[end:])
    print(table)


def measure_gates(args: argparse.Namespace) -> GateStatistics:
    """Measure the gates of the network in the package on held-out composites, and write that into the package."""
    held_out = Store(args.work / "held_out", args.held_out)
    chunks = np.array_split(np.arange(held_out.done), held_out.done // 250)
    pictures = (drop_drawings(torch.from_numpy(held_out.arrays["pictures"][rows])) for rows in chunks)
    statistics = GateStatistics.measure(
        embedded.load(), tqdm(pictures, total=len(chunks), desc="gate statistics"), extremes=256
    ).completed()
    statistics.save(Path(embedded.__file__).parent / "embedded_gates.pt", compact=True)
    return statistics


def drop_drawings(pictures: Tensor) -> Tensor:
    """The photographs among the pictures: ``[N,96,96,3]`` bytes to ``[M,3,96,96]`` in [0,1].

    A camera has noise. A picture with more than half of its neighbouring pixels equal is a vector drawing. On its
    uniform areas gates of the last two blocks have logits far beyond those on all other pictures (docs/decisions.md).
    """
    equal = (pictures[:, :, 1:] == pictures[:, :, :-1]).all(-1).float().mean((1, 2))
    return pictures[equal < 0.5].permute(0, 3, 1, 2) / 255


def reset_batch_norm(student: Student, store: Store) -> None:
    """Measure the statistics of batch norm again, because those of training do not belong to the averaged weights."""
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
            module.reset_running_stats()
    student.train()
    with torch.no_grad():
        for rows in np.array_split(np.arange(0, store.done, 3), store.done // 3 // 128):
            student(store.batch(rows)[0])
    student.eval()


def measure_agreement(student: Student, store: Store, scale: Standards, chunks: list[np.ndarray]) -> dict[str, Any]:
    """Agreement of the student with the teacher on ``store``: explained variances, equal classes, divergence."""
    totals, spread, right, near = torch.zeros(4), torch.zeros(3), 0, 0
    with torch.no_grad():
        for rows in tqdm(chunks, desc="agreement"):
            batch = store.batch(rows)
            share = len(rows) / store.done
            totals += share * torch.stack(compute_losses(student, batch, scale))
            standard = [(t - m) / s for t, (m, s) in zip(split_taps(batch[1]), scale, strict=True)]
            spread += share * torch.stack([t.square().mean() for t in standard])
            best, truth = student(batch[0])[1].topk(5).indices, batch[2].argmax(1, keepdim=True)
            right += int((best[:, :1] == truth).sum())
            near += int((best == truth).any(1).sum())
    explained = (1 - totals[:3] / spread).tolist()
    return {"explained": explained, "first": right / store.done, "five": near / store.done, "nats": float(totals[3])}


def measure_ends(statistics: GateStatistics, block: str) -> tuple[Tensor, Tensor]:
    """For each gate the shares of images on which it is exactly 0, and exactly 1: a hard sigmoid beyond -3 and 3.

    They are read off the quantiles of its logits. On 7,452 composites made anew the means of all blocks were within 0.2
    points of a count.
    """
    ends = torch.tensor([-3.0, 3.0])
    below = [statistics.percentile(block, unit, ends) / 100 for unit in range(len(statistics[block].logit_mean))]
    return torch.stack(below)[:, 0], 1 - torch.stack(below)[:, 1]


def make_tables(steps: int, args: argparse.Namespace, agreement: dict[str, Any], statistics: GateStatistics) -> str:
    """The model card's tables."""
    trained, held_out = (json.loads((args.work / name / "sources.json").read_text()) for name in ("train", "held_out"))
    first, five, nats = (agreement[key] for key in ("first", "five", "nats"))
    explained = zip((4, 8, 16), agreement["explained"], strict=True)
    lines = [
        f"Trained for {steps:,} steps of {args.batch} on {args.images:,} composites of {trained['photographs']:,}",
        f"photographs and textures and {trained['objects']} objects. Measured on {args.held_out:,} composites of",
        f"{held_out['photographs']} others and {held_out['objects']} objects, none of them trained on; the gates on",
        f"the {statistics.count:,} of these that are not drawings (more than half of all neighbours equal):",
        "",
        "| agreement with the teacher | held out |",
        "|---|---|",
        *(f"| explained variance at stride {stride} | {share:.2f} |" for stride, share in explained),
        f"| same first class of 1,000 | {100 * first:.1f} % |",
        f"| teacher's first class among the first five | {100 * five:.1f} % |",
        f"| divergence from its soft labels | {nats:.2f} nats |",
        "",
        "| block | gates | vary (sd > 0.01) | vary much (sd > 0.05) | exactly 0 | exactly 1 | mean sd of value |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, site in statistics.sites.items():
        sd, (zero, one) = site.value_sd, measure_ends(statistics, name)
        shares = ((sd > 0.01).float(), (sd > 0.05).float(), zero, one)
        cells = " | ".join(f"{100 * share.mean():.0f} %" for share in shares)
        lines.append(f"| `{name}` | {len(sd)} | {cells} | {sd.mean():.3f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["teach", "train", "export", "gates"], help="see above")
    parser.add_argument("--work", type=Path, required=True, help="folder for composites and checkpoints")
    parser.add_argument("--photos", nargs="*", default=PHOTOS, help="folders of photographs and textures")
    parser.add_argument("--objects", nargs="*", default=OBJECTS, help="folders of pictures with an alpha channel")
    parser.add_argument("--images", type=int, default=40_000, help="composites to train on (default: 40000)")
    parser.add_argument("--held-out", type=int, default=8_000, help="composites to measure on (default: 8000)")
    parser.add_argument("--steps", type=int, default=7_000, help="steps of training (default: 7000)")
    parser.add_argument("--batch", type=int, default=64, help="composites per step (default: 64)")
    parser.add_argument("--lr", type=float, default=4e-3, help="the highest learning rate (default: 0.004)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks (needs a C++ compiler)")
    stages: dict[str, Callable[[argparse.Namespace], object]] = {
        "teach": teach, "train": train, "export": export, "gates": measure_gates,
    }  # fmt: skip

    def work() -> None:
        args = parser.parse_args()
        stages[args.stage](args)

    return run_command("train_embedded", work)


if __name__ == "__main__":
    sys.exit(main())
