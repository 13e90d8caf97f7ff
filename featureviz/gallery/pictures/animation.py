"""Frames as one file: GIF, animated PNG or WebP, by Pillow; H.264 video, by PyAV."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_path, show_path

Frames = Sequence[np.ndarray]  # [H,W,3], bytes

HOLD = 1.5  # seconds that the last frame is shown
LONGEST = 16_383  # pixels of a side of a WebP, which allows the fewest
PALETTE = 8192  # pixels of a frame from which the 256 colours of a GIF are chosen
QUALITY = {"webp": 88, "h264": "16"}  # of a WebP, from 100 down; the quantizer of H.264, from 0 up
_BT709, _LIMITED = 1, 1  # the numbers of H.264 for the colours of high-definition video, and for 16 to 235


def name_animation(path: PathLike) -> Path:
    """``path``, if its suffix is that of an animation that can be written here.

    Raises:
        InvalidInput: it is of another format; or it is MP4, and PyAV is not installed.
    """
    target = Path(check_path(path))
    suffix = target.suffix.lower()
    if suffix not in ENCODERS:
        raise InvalidInput(f"{show_path(path)} was given for an animation; expected one of {', '.join(ENCODERS)}")
    if suffix == ".mp4":
        _import_av()
    return target


def encode_animation(frames: Frames, suffix: str, fps: float) -> bytes:
    """The frames as a file of this format; GIF, PNG and WebP repeat for ever, and all hold the last frame.

    >>> frames = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(4)]
    >>> encode_animation(frames, ".gif", 12)[:6]
    b'GIF89a'
    """
    height, width = frames[0].shape[:2]
    if max(height, width) > LONGEST:
        raise InvalidInput(
            f"the animation would have {width:,} x {height:,} pixels; expected at most {LONGEST:,} a side: give fewer"
            " units, a smaller size, or another number of columns"
        )
    return ENCODERS[suffix.lower()](frames, fps)


def _encode_gif(frames: Frames, fps: float) -> bytes:
    from PIL import Image

    pictures = list[Any]()
    for frame in frames:
        step = math.ceil((frame[..., 0].size / PALETTE) ** 0.5)
        some = Image.fromarray(np.ascontiguousarray(frame[::step, ::step]))
        # Of Pillow's ways to choose 256 colours the one that, dithered, changes large areas of a render least.
        colours = some.quantize(256, method=Image.Quantize.MAXCOVERAGE)
        pictures.append(Image.fromarray(frame).quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG))
    return _save(pictures, "GIF", fps)


def _encode_png(frames: Frames, fps: float) -> bytes:
    return _save(_to_pictures(frames), "PNG", fps)


def _encode_webp(frames: Frames, fps: float) -> bytes:
    return _save(_to_pictures(frames), "WEBP", fps, quality=QUALITY["webp"], method=4)


def _to_pictures(frames: Frames) -> list[Any]:
    from PIL import Image  # imported here so that `import featureviz` stays light

    return [Image.fromarray(frame) for frame in frames]


def _save(pictures: Sequence[Any], form: str, fps: float, **options: Any) -> bytes:
    file, (first, *others) = io.BytesIO(), pictures
    milliseconds = [*(round(1000 / fps) for _ in others), round(1000 * HOLD)]
    first.save(file, form, save_all=True, append_images=others, loop=0, duration=milliseconds, **options)
    return file.getvalue()


def _encode_mp4(frames: Frames, fps: float) -> bytes:
    av, file = _import_av(), io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY["h264"], "preset": "slow"})
        even = [np.pad(frame, ((0, len(frame) % 2), (0, frame.shape[1] % 2), (0, 0)), "edge") for frame in frames]
        stream.height, stream.width = even[0].shape[:2]
        stream.pix_fmt = "yuv420p"  # which every player shows; it needs even sides
        colours = stream.codec_context
        colours.color_primaries = colours.color_trc = colours.colorspace = _BT709
        colours.color_range = _LIMITED
        for frame in [*even, *even[-1:] * round(HOLD * fps)]:
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=_BT709)))
        container.mux(stream.encode())
    return file.getvalue()


def _import_av() -> Any:
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InvalidInput(
            "MP4 is written by PyAV, which is not installed: pip install 'featureviz[video]', or give a .gif, .png or"
            " .webp"
        ) from error
    return av


ENCODERS: dict[str, Callable[[Frames, float], bytes]] = {
    ".gif": _encode_gif, ".png": _encode_png, ".apng": _encode_png, ".webp": _encode_webp, ".mp4": _encode_mp4,
}  # fmt: skip
