"""Random numbers keyed by (seed, image, view, step), so that an image never depends on its batch.

This is a counter-based generator: every number is a hash of its own coordinates, and the rows of a batch share no
stream. Image 17 gets the same numbers alone, in a batch of 100, on another worker or after a resume. The hash is
SplitMix64 (Steele, Lea & Flood 2014) on int64 tensors, whose products wrap around. It takes a few integer operations
on the device of the rows. The step is a device tensor, so every replay of a captured graph draws new numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from featureviz.checks import LARGEST, SEEDS, VIEWS, finite, show, usable, whole, wholes
from featureviz.errors import InvalidInput

ROWS = 2**22  # of a generator: a draw of the step takes half a gigabyte
INITIAL, HELD_OUT = -1, -2  # steps that no ascent reaches: for the initial image, and for held-out views


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN, _MIX1, _MIX2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift; >> on int64 is arithmetic


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def _absorb(state: Tensor, key: Tensor | int) -> Tensor:
    offset = _signed((key + 1) * _GOLDEN % (1 << 64)) if isinstance(key, int) else (key + 1) * _GOLDEN
    return _mix(state + offset)


def _spread(keys: Tensor, count: int) -> Tensor:
    """``count`` random bit patterns for each key: ``[M]`` to ``[M, count]``."""
    return _mix(keys[:, None] + torch.arange(1, count + 1, device=keys.device) * _GOLDEN)


def _floats(bits: Tensor) -> Tensor:
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def normal_of(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers ``[M, *shape]`` float32 of the draw ``keys``, ``[M]`` (Box-Muller: a hash gives two).

    >>> rng = Rng(0, 2)
    >>> bool((normal_of(rng.keys(), (3, 4)) == rng.restart().normal((3, 4))).all())
    True
    """
    count = math.prod(shape)
    bits = _spread(keys, (count + 1) // 2)
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _floats(bits)))  # 1 - u is in (0, 1]
    angle = (2 * math.pi) * _floats(bits << 24)
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return both[:, :count].reshape(-1, *shape)


def number_images(n: int, image_ids: Iterable[int] | Tensor | None) -> list[int]:
    """The number of each of ``n`` images: ``image_ids``, one an image, or 0, 1, 2... if there are none.

    >>> number_images(3, None), number_images(2, torch.tensor([7, 7]))
    ([0, 1, 2], [7, 7])
    """
    if image_ids is None:
        return list(range(n))
    ids = wholes("image_ids", image_ids)
    if len(ids) != n:
        raise InvalidInput(f"image_ids={show(ids)} was given for {n} images; expected one for each image")
    return ids


def _as_ids(images: int | Iterable[int] | Tensor) -> Tensor:
    """``[N]`` int64; a tensor stays where it is and is not read."""
    if isinstance(images, Tensor) and images.ndim == 1:
        if images.is_floating_point() or images.is_complex() or images.dtype == torch.bool:
            raise InvalidInput(f"images={show(images)} of {images.dtype} was given; expected whole numbers")
        return images.to(torch.int64)
    several = isinstance(images, Iterable) and not isinstance(images, Tensor)
    ids = wholes("images", images) if several else range(whole("images", images, 0, ROWS))
    return torch.tensor(list(ids), dtype=torch.int64, device="cpu")


class Rng:
    """Uniform and normal numbers for ``M = N * views`` rows: row ``i * views + k`` is view k of image i.

    ``images`` is the number N of images, or their ids, a list or integers ``[N]``. ``step`` is the first step. Within
    a step each call is a new draw; ``advance()`` goes to the next step.

    >>> alone, batch = Rng(7, torch.tensor([3])), Rng(7, 5)
    >>> bool(alone.uniform()[0] == batch.uniform()[3])
    True
    """

    COLUMNS = 16  # uniforms hashed at once, so that few kernels serve all scalar draws of a step

    def __init__(
        self,
        seed: int,
        images: int | Iterable[int] | Tensor,
        views: int = 1,
        device: torch.device | str | None = None,
        step: int = 0,
    ) -> None:
        seed, self.views, step = whole("seed", seed, *SEEDS), whole("views", views, 1, VIEWS), whole("step", step, -2)
        ids = _as_ids(images).to(usable(device))
        if len(ids) * self.views > ROWS:
            raise InvalidInput(
                f"{len(ids)} images of {self.views} views were given; expected at most {ROWS} views in all"
            )
        state = _absorb(torch.full_like(ids, _signed(seed % (1 << 64))), ids)
        view = torch.arange(self.views, device=ids.device)
        self.step = torch.tensor(step, dtype=torch.int64, device=ids.device)
        self._rows = _absorb(state[:, None], view[None, :]).flatten()  # [M]
        self.restart()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def device(self) -> torch.device:
        return self._rows.device

    def select(self, images: slice, views: slice) -> Rng:
        """A generator for some of the rows, with the same numbers. It shares this object's step."""
        twin = copy.copy(self)
        twin._rows = self._rows.view(-1, self.views)[images, views]
        twin.views, twin._rows = twin._rows.shape[1], twin._rows.flatten()
        return twin.restart()

    def restart(self) -> Rng:
        """Return to the first draw of the step."""
        self._draw = 0
        self._column = 0
        self._block = self._rows[:0]
        return self

    def advance(self, by: int = 1) -> None:
        """Go ``by`` steps forward, without host synchronisation."""
        self.step += whole("by", by, -LARGEST)
        self.restart()

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform in [low, high), ``[M, *shape]`` float32."""
        low, high, shape = finite("low", low), finite("high", high), tuple(wholes("shape", shape, 1))
        if shape:
            numbers = _floats(self._hash(math.prod(shape))).view(-1, *shape)
        else:
            if self._column % self.COLUMNS == 0:
                self._block = _floats(self._hash(self.COLUMNS))
            numbers = self._block[:, self._column % self.COLUMNS]
            self._column += 1
        return numbers * (high - low) + low

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal, ``[M, *shape]`` float32."""
        return normal_of(self.keys(), tuple(wholes("shape", shape, 1)))

    def keys(self) -> Tensor:
        """A new draw that has no shape yet, ``[M]`` int64: ``normal_of`` makes its numbers."""
        keys = _absorb(_absorb(self._rows, self.step), self._draw)
        self._draw += 1
        return keys

    def integers(self) -> Tensor:
        """63 random bits, ``[M]`` int64."""
        return _shift_right(self._hash(1)[:, 0], 1)

    def _hash(self, count: int) -> Tensor:
        return _spread(self.keys(), count)
