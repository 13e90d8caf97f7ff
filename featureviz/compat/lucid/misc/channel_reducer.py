"""Lucid's ``ChannelReducer``: fewer channels, by a factorization of scikit-learn (``featureviz[compat]``)."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from torch import Tensor

from featureviz.checks import show, whole
from featureviz.errors import InvalidInput, unknown

Array = np.ndarray[Any, Any]


@final
class ChannelReducer:
    """``[..., C]`` to ``[..., n_components]`` by a class of ``sklearn.decomposition``, such as ``NMF`` or ``PCA``.

    The components are ``reducer._reducer.components_`` ``[n_components,C]``, as in Lucid. It needs scikit-learn:
    ``pip install 'featureviz[compat]'``.
    """

    def __init__(self, n_components: int = 3, reduction_alg: str = "NMF", **kwargs: Any) -> None:
        try:
            from sklearn import decomposition  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InvalidInput(
                "ChannelReducer needs scikit-learn, which is not installed: pip install 'featureviz[compat]'"
            ) from None
        known = [name for name in decomposition.__all__ if name[0].isupper()]
        if reduction_alg not in known:
            raise unknown("decomposition", reduction_alg, known)
        self.n_components = whole("n_components", n_components, 1)
        try:
            self._reducer: Any = getattr(decomposition, reduction_alg)(n_components=self.n_components, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"sklearn.decomposition.{reduction_alg} was given {show(kwargs)}: {error}") from None

    def fit(self, acts: Any) -> ChannelReducer:
        """Learn the components of ``[..., C]``."""
        self._apply("fit", acts)
        return self

    def transform(self, acts: Any) -> Array:
        """``[..., C]`` in the components, ``[..., n_components]``."""
        return self._apply("transform", acts)

    def fit_transform(self, acts: Any) -> Array:
        """Both at once."""
        return self._apply("fit_transform", acts)

    __call__ = transform

    def _apply(self, method: str, acts: Any) -> Any:
        """A method of scikit-learn's on ``[M,C]``; if it gives values, they have the axes of ``acts``."""
        values = acts.detach().cpu().numpy() if isinstance(acts, Tensor) else np.asarray(acts)
        if values.ndim < 2 or values.dtype.kind not in "fiu":
            raise InvalidInput(f"acts={show(acts)} was given; expected activations [..., C], such as [N,H,W,C]")
        try:
            found = getattr(self._reducer, method)(values.reshape(-1, values.shape[-1]))
        except ValueError as error:  # negative values in NMF, other channels than before, not fitted yet
            raise InvalidInput(f"{type(self._reducer).__name__}.{method} of {list(values.shape)}: {error}") from error
        return found.reshape(*values.shape[:-1], -1) if isinstance(found, np.ndarray) else found
