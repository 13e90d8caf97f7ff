"""The example photographs of scikit-image, for scripts that are given none."""

from __future__ import annotations

from pathlib import Path

import featureviz as fv


def find_examples() -> Path:
    """The folder of scikit-image's pictures."""
    try:
        import skimage  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise fv.FeaturevizError(
            "scikit-image, which has photographs, is not installed: pip install '.[scripts]', or give your own pictures"
        ) from error
    return Path(skimage.__path__[0]) / "data"
