"""Timelapses: the frames are the snapshots, in every format, and Ctrl-C keeps what there is."""

import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.gallery import timelapse
from featureviz.gallery.pictures.animation import ENCODERS, encode_animation
from featureviz.gallery.pictures.timelapse import choose_steps
from featureviz.rendering.png import to_pixels

Q: dict[str, Any] = {"size": 16, "steps": 6, "progress": False}


def read_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as file:
        frames = list[np.ndarray]()
        for i in range(getattr(file, "n_frames", 1)):
            file.seek(i)
            frames.append(np.asarray(file.convert("RGB")))
        return frames


@pytest.fixture
def control_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C in the third step."""
    previous, step, done = signal.signal(signal.SIGINT, signal.default_int_handler), fv.Ascent.step, list[int]()

    def counted(self: fv.Ascent) -> None:
        done.append(1)
        if len(done) == 3:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(fv.Ascent, "step", counted)
    yield
    signal.signal(signal.SIGINT, previous)


def test_the_frames_are_the_snapshots(tiny: fv.TappedModel, tmp_path: Path) -> None:
    frames = read_frames(timelapse(tiny, "conv:1", tmp_path / "a.png", **Q))
    made = fv.render(tiny, "conv:1", snapshots=range(7), **Q)
    assert len(frames) == 7
    for step, frame in enumerate(frames):
        assert np.array_equal(frame, to_pixels(made.snapshots[step][0]))
    assert not np.array_equal(frames[0], frames[-1])


@pytest.mark.parametrize(("suffix", "most"), [(".gif", 24), (".webp", 12), (".PNG", 0), (".apng", 0)])
def test_every_format_keeps_frames_times_and_colours(suffix: str, most: float) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = [np.stack([np.tile(ramp, (40, 1)), np.full((40, 64), 60 * i, np.uint8), 255 - np.tile(ramp, (40, 1))], -1)
              for i in range(4)]  # fmt: skip
    file = io.BytesIO(encode_animation(frames, suffix, 20))
    with Image.open(file) as animation:
        assert (animation.n_frames, animation.size) == (4, (64, 40))  # pyright: ignore[reportAttributeAccessIssue]
        assert animation.info.get("loop") == 0
        times = list[float]()
        for i, frame in enumerate(frames):
            animation.seek(i)
            animation.load()
            times.append(animation.info["duration"])
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - frame).mean() <= most
    assert times == [50, 50, 50, 1500]


@pytest.mark.parametrize("size", [(16, 20), (15, 21)])
def test_a_video_plays_everywhere(size: tuple[int, int], tiny: fv.TappedModel, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    options: dict[str, Any] = Q | {"size": size}
    path = timelapse(tiny, ["conv:1", "conv:2"], tmp_path / "a.mp4", fps=10, columns=2, **options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    height, width = size[0], 2 * size[1] + 4
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    assert len(frames) == 7 + 15
    made = fv.render(tiny, ["conv:1", "conv:2"], **options).images
    shown = frames[-1][:height, : size[1]].astype(int)
    assert np.abs(shown - to_pixels(made[0])).mean() < 24  # a quarter of the colours of a picture of 16 pixels
    assert np.abs(shown.mean((0, 1)) - to_pixels(made[0]).mean((0, 1))).max() < 4


def test_a_video_without_its_package_is_refused_before_the_render(
    tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InvalidInput, match=r"pip install 'featureviz\[video\]'"):
        timelapse(tiny, "conv:1", tmp_path / "a.mp4", **Q)
    assert list(tmp_path.iterdir()) == []


def test_several_units_are_a_grid(tiny: fv.TappedModel, tmp_path: Path) -> None:
    goals = [fv.Channel("conv", range(4)), -fv.Channel("conv", 2)]  # pyright: ignore[reportArgumentType]
    frame = read_frames(timelapse(tiny, goals, tmp_path / "a.png", columns=5, every=3, **Q))[-1]
    assert frame.shape == (16, 5 * 20 - 4, 3)
    made = fv.render(tiny, ["conv:0", "conv:1", "conv:2", "conv:3", "-conv:2"], **Q)
    for i in range(5):
        assert np.abs(frame[:, 20 * i : 20 * i + 16].astype(int) - to_pixels(made.images[i])).max() <= 1


def test_images_with_transparency_are_on_white(tiny: fv.TappedModel, tmp_path: Path) -> None:
    frames = read_frames(timelapse(tiny, "conv:1", tmp_path / "a.png", image=fv.AlphaImage, **Q))
    assert np.array_equal(frames[-1], to_pixels(fv.render(tiny, "conv:1", image=fv.AlphaImage, **Q).on_white()[0]))


@pytest.mark.usefixtures("control_c")
def test_an_interrupted_timelapse_keeps_what_there_is(tiny: fv.TappedModel, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"a\.png shows 3 of 6 steps"):
        timelapse(tiny, "conv:1", tmp_path / "a.png", every=2, **Q)
    frames = read_frames(tmp_path / "a.png")
    made = fv.render(tiny, "conv:1", snapshots=[0, 2, 3], **Q).snapshots
    assert len(frames) == 3  # after the steps 0, 2 and 3
    for frame, step in zip(frames, (0, 2, 3), strict=True):
        assert np.array_equal(frame, to_pixels(made[step][0]))


def test_steps_are_closer_at_first() -> None:
    for steps in (1, 2, 7, 128, 2048):
        chosen = choose_steps(steps)
        assert chosen == sorted(set(chosen))
        assert (chosen[0], chosen[-1]) == (0, steps)
    gaps = np.diff(choose_steps(2048))
    assert gaps[0] == 1
    assert gaps[-1] > 200
    assert 40 < len(gaps) < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a.avi"}, r"\.gif, \.png, \.apng, \.webp, \.mp4"),
        ({"fps": 0}, "fps"),
        ({"every": 0}, "every"),
        ({"columns": 0}, "columns"),
        ({"steps": 0}, "steps"),
        ({"snapshots": [1]}, "every="),
        ({"size": 2**15}, "GB"),
        ({"goal": 5}, "a spec such as"),
        ({"goal": []}, "at least one"),
    ],
)
def test_wrong_arguments_are_told(options: dict[str, Any], message: str, tiny: fv.TappedModel, tmp_path: Path) -> None:
    path, goal = tmp_path / options.pop("path", "a.gif"), options.pop("goal", "conv:1")
    with pytest.raises(InvalidInput, match=message):
        timelapse(tiny, goal, path, **Q | options)
    assert list(tmp_path.iterdir()) == []


def test_an_animation_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="16,383"):
        encode_animation([np.zeros((1, 20_000, 3), np.uint8)], ".webp", 12)
    assert set(ENCODERS) == {".gif", ".png", ".apng", ".webp", ".mp4"}
