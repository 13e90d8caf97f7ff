"""Natural images as batches: from a folder, a tensor, or anything that yields tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from featureviz.checks import holds_numbers, show, whole
from featureviz.errors import InvalidInput
from featureviz.files import PathLike
from featureviz.image.base import Size, height_width
from featureviz.image.picture import ROUNDING, read_picture

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
BATCH = 32


class Batch(NamedTuple):
    """Images ``[B,C,H,W]`` in [0,1], and their class numbers ``[B]`` and names if they are known."""

    images: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] | None = None


class Skipped(NamedTuple):
    """A file that could not be read, and the reason."""

    path: str
    reason: str


@final
class Pictures:
    """The pictures of a folder, or of a list of paths, as batches ``[B,3,H,W]`` in [0,1].

    A folder is searched with its sub-folders for png, jpg, jpeg, webp, bmp, gif, tif and tiff files without hidden
    ones. ``size`` is the side of the square in pixels, or (height, width). ``batch`` is the number of pictures in a
    batch; the last batch may be smaller.

    The order is that of the sorted paths, or of the list. Each picture is read by ``read_picture``: scaled with
    antialiasing until it just covers ``size`` (bilinear, as torchvision evaluates its classifiers) and cropped at the
    centre. If every file of a folder is in a sub-folder, the name of the first sub-folder is its class: ``classes``
    are the sorted names, and labels are indices of them. Only one batch is in memory.

    A file that cannot be read is left out and recorded in ``skipped``, which each iteration starts anew.

    Raises:
        InvalidInput: no such folder, no picture in it, or (at the end of an iteration) no file that could be read.

    >>> import tempfile, numpy as np, imageio.v3 as iio
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("ant", "bee"):
    ...         (Path(folder) / name).mkdir()
    ...         iio.imwrite(Path(folder) / name / "1.png", np.zeros((40, 60, 3), np.uint8))
    ...     [(batch.images.shape, batch.labels.tolist(), batch.names) for batch in Pictures(folder, 32)]
    [(torch.Size([2, 3, 32, 32]), [0, 1], ('ant/1.png', 'bee/1.png'))]
    """

    def __init__(self, source: PathLike | Sequence[PathLike], size: Size, batch: int = BATCH) -> None:
        self.size, self.batch = height_width(size), whole("batch", batch, 1)
        self.skipped: list[Skipped] = []
        self._folders: list[Skipped] = []  # folders that could not be listed
        self._labels: list[int] | None = None
        self.classes: tuple[str, ...] = ()
        if not isinstance(source, str | os.PathLike):
            self.paths = _check_paths(source)
            self.names = tuple(path.as_posix() for path in self.paths)
            return
        self.paths, self._folders = _search(Path(source))
        self.names = tuple(path.relative_to(source).as_posix() for path in self.paths)
        if all("/" in name for name in self.names):
            folders = [name.split("/")[0] for name in self.names]
            self.classes = tuple(sorted(set(folders)))
            number = {name: i for i, name in enumerate(self.classes)}
            self._labels = [number[folder] for folder in folders]

    def __len__(self) -> int:
        """The number of files, including those that cannot be read."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Batch]:
        self.skipped = list(self._folders)
        images: list[Tensor] = []
        kept: list[int] = []
        for number, path in enumerate(self.paths):
            try:
                images.append(read_picture(path, self.size))
            except InvalidInput as error:
                self.skipped.append(Skipped(str(path), str(error)))
                continue
            kept.append(number)
            if len(kept) == self.batch:
                yield self._batch(images, kept)
                images, kept = [], []
        if kept:
            yield self._batch(images, kept)
        unread = self.skipped[len(self._folders) :]
        if len(unread) == len(self.paths):
            raise InvalidInput(f"none of {len(unread)} files could be read as a picture; the first: {unread[0].reason}")

    def _batch(self, images: list[Tensor], kept: list[int]) -> Batch:
        labels = None if self._labels is None else torch.tensor([self._labels[i] for i in kept])
        return Batch(torch.stack(images), labels, tuple(self.names[i] for i in kept))


def _search(root: Path) -> tuple[list[Path], list[Skipped]]:
    """The pictures under ``root``, sorted, and the folders that could not be listed."""
    if not os.path.exists(root):
        raise InvalidInput(f"there is no folder {str(root)!r}; give one that holds pictures")
    if not os.path.isdir(root):
        raise InvalidInput(f"{str(root)!r} is a file; give its folder, or a list of paths: Pictures([path], size)")
    paths: list[Path] = []
    unlisted: list[Skipped] = []
    entered: set[str] = set()

    def note(error: OSError) -> None:
        unlisted.append(Skipped(str(error.filename), f"{type(error).__name__}: {error.strerror}"))

    for base, folders, names in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(base)
        if real in entered:  # links may form a circle
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        wanted = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS)
        paths.extend(Path(base) / name for name in wanted)
    if not paths:
        endings = ", ".join(sorted(ending[1:] for ending in EXTENSIONS))
        raise InvalidInput(f"no pictures under {str(root)!r}; expected files that end in {endings}")
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix()), unlisted


def _check_paths(source: object) -> list[Path]:
    if not isinstance(source, Sequence) or not all(isinstance(path, str | os.PathLike) for path in source):
        raise InvalidInput(f"a {type(source).__name__} was given; expected a folder or a list of paths")
    if not source:
        raise InvalidInput("an empty list was given; expected at least one path")
    return [Path(path) for path in source]


Source = PathLike | Pictures | Tensor | Iterable[Any]


def batches(source: Source, size: Size, *, batch: int = BATCH) -> Iterator[Batch]:
    """The images of any source, as ``Batch`` of at most ``batch`` images.

    ``source`` is a folder, whose pictures are cropped to ``size``; ``Pictures``; a tensor ``[N,C,H,W]`` in [0,1]; or
    anything that yields such tensors or (images, labels) pairs, such as a ``DataLoader``. Tensors keep their size.

    Raises:
        InvalidInput: images that are not floats in [0,1] of four dimensions, or labels that do not fit them.

    >>> [len(b.images) for b in batches(torch.rand(70, 3, 8, 8), 8)]
    [32, 32, 6]
    """
    batch = whole("batch", batch, 1)
    if isinstance(source, str | os.PathLike):
        source = Pictures(source, size, batch)
    if isinstance(source, Tensor):
        source = [source]
    if not isinstance(source, Iterable) or getattr(source, "ndim", 1) == 0:
        raise InvalidInput(
            f"a {type(source).__name__} was given for the pictures; expected a folder, Pictures, a tensor [N,C,H,W] in"
            " [0,1], or an iterable of tensors or (images, labels) pairs"
        )
    return _split_batches(source, batch)


def load_pictures(source: Source, names: Mapping[int, str | None], size: Size) -> Iterator[tuple[int, Tensor]]:
    """The images with these numbers, again and one at a time: (number, ``[C,H,W]``), as they were measured.

    ``names`` gives the name of each image if it is known. Files are found by their names, because those that could not
    be read have no number. Images of anything else are counted as ``batches`` gives them, so a loader must not shuffle.
    What ``source`` does not contain any more is left out.
    """
    source = Pictures(source, size) if isinstance(source, str | os.PathLike) else source
    if isinstance(source, Pictures):
        paths = dict(zip(source.names, source.paths, strict=True))
        for number, name in names.items():
            with suppress(InvalidInput):  # the file has changed since it was measured
                if name in paths:
                    yield number, read_picture(paths[name], source.size)
        return
    if isinstance(source, Tensor):
        yield from ((number, source[number].float()) for number in names if number < len(source))
        return
    first = 0
    for batch in batches(source, size):
        yield from ((first + i, image) for i, image in enumerate(batch.images) if first + i in names)
        first += len(batch.images)


def _split_batches(source: Iterable[Any], most: int) -> Iterator[Batch]:
    labelled: bool | None = None
    for number, item in enumerate(source):
        images, labels, names = _check_item(item, f"batch {number}")
        if labelled is not None and labelled != (labels is not None):
            raise InvalidInput(
                f"batch {number} has {'' if labels is not None else 'no '}labels, unlike those before it; give labels"
                " with every batch or with none"
            )
        labelled = labels is not None
        for start in range(0, len(images), most):
            rows = slice(start, start + most)
            yield Batch(images[rows], None if labels is None else labels[rows], None if names is None else names[rows])


def _check_item(item: Any, which: str) -> Batch:
    names = item.names if isinstance(item, Batch) else None
    if isinstance(item, Tensor):
        item = (item,)
    if not isinstance(item, Batch) and not (isinstance(item, tuple | list) and len(item) in (1, 2)):
        hint = "; for a list of paths give Pictures(paths, size)" if isinstance(item, str | os.PathLike) else ""
        raise InvalidInput(f"{which} is a {type(item).__name__}; expected a tensor or an (images, labels) pair{hint}")
    images, labels = item[0], item[1] if len(item) > 1 else None
    _check_images(images, which)
    if labels is None:
        return Batch(images, None, names)
    labels = torch.as_tensor(labels)
    fits = labels.shape == (len(images),) and not labels.is_floating_point()
    if not fits or bool((labels < 0).any()):
        given = "negative numbers" if fits else f"{list(labels.shape)} of {labels.dtype}"
        raise InvalidInput(
            f"{which} has {len(images)} images and labels {given}; expected one class number, 0 or more, for each"
            f" image, as integers [{len(images)}]"
        )
    return Batch(images, labels.long().cpu(), names)


def _check_images(images: Any, which: str) -> None:
    if not isinstance(images, Tensor):
        raise InvalidInput(f"{which} holds a {type(images).__name__} for its images; expected a tensor [B,C,H,W]")
    if not holds_numbers(images):
        raise InvalidInput(f"{which} is {show(images)}, which holds no plain real numbers; expected floats in [0,1]")
    if images.ndim != 4:
        hint = "; add the batch dimension: images[None], or a DataLoader over the data set" if images.ndim == 3 else ""
        raise InvalidInput(f"{which} has the shape {list(images.shape)}; expected [B,C,H,W]{hint}")
    if not images.is_floating_point():
        raise InvalidInput(f"{which} is {images.dtype}; expected floats in [0,1]: bytes are images.float() / 255")
    low, high = (float(end) for end in images.aminmax()) if images.numel() else (0.0, 0.0)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # written so that NaN fails too
        raise InvalidInput(
            f"{which} has values from {low:.3g} to {high:.3g}; expected [0,1]: leave out Normalize, the model does that"
            " itself, and divide bytes by 255"
        )
