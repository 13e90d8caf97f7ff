"""Lucid's ``ChannelReducer``: fewer channels, by a factorization of scikit-learn."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from featureviz.errors import InvalidInput, unknown


@final
class ChannelReducer:
    """``[..., C]`` to ``[..., n_components]`` by a decomposition of scikit-learn, such as NMF; needs scikit-learn."""

    def __init__(self, n_components: int = 3, reduction_alg: str = "NMF", **kwargs: Any) -> None:
        try:
            from sklearn import decomposition  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InvalidInput("ChannelReducer needs scikit-learn: pip install scikit-learn") from None
        if not hasattr(decomposition, reduction_alg):
            raise unknown("decomposition", reduction_alg, [n for n in dir(decomposition) if n[0].isupper()])
        self.n_components = n_components
        self._reducer: Any = getattr(decomposition, reduction_alg)(n_components=n_components, **kwargs)

    def fit(self, acts: Any) -> ChannelReducer:
        """Learn the components of ``[..., C]``."""
        self._reducer.fit(_flat(acts))
        return self

    def transform(self, acts: Any) -> np.ndarray[Any, Any]:
        """``[..., C]`` in the components, ``[..., n_components]``."""
        return self._reducer.transform(_flat(acts)).reshape(*np.shape(acts)[:-1], -1)

    def fit_transform(self, acts: Any) -> np.ndarray[Any, Any]:
        """Both at once."""
        return self._reducer.fit_transform(_flat(acts)).reshape(*np.shape(acts)[:-1], -1)

    __call__ = transform


def _flat(acts: Any) -> np.ndarray[Any, Any]:
    values = np.asarray(acts)
    return values.reshape(-1, values.shape[-1])
