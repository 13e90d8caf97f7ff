"""Lucid's ``ChannelReducer``: activations made of parts are those parts again; what is wrong is explained."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from featureviz.compat.lucid.misc.channel_reducer import ChannelReducer
from featureviz.errors import FeaturevizError, InvalidInput, UnknownName


def test_channels_are_reduced() -> None:
    """Activations made of three parts are those parts again, up to order and length; PCA is an SVD."""
    pytest.importorskip("sklearn")
    parts = np.zeros((3, 12))
    parts[0, :4], parts[1, 4:8], parts[2, 8:] = 1, 2, 3
    weights = np.random.default_rng(0).random((2, 5, 6, 3)) + 0.1
    acts = weights @ parts
    reducer = ChannelReducer(3, "NMF", max_iter=2000, tol=1e-8, random_state=0)
    found = reducer.fit_transform(acts)
    assert found.shape == (2, 5, 6, 3)
    assert found.min() >= 0
    assert np.allclose(found @ reducer._reducer.components_, acts, atol=1e-3)
    assert np.allclose(reducer.transform(acts[1]) @ reducer._reducer.components_, acts[1], atol=1e-2)
    acts = np.random.default_rng(1).random((2, 4, 5, 6))
    flat = acts.reshape(-1, 6)
    u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    principal = ChannelReducer(2, "PCA").fit(torch.as_tensor(acts))(acts)
    assert np.allclose(abs(principal.reshape(-1, 2)), abs(u * s)[:, :2], atol=1e-8)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: ChannelReducer(3, "NFM"), UnknownName, "nearest: 'NMF'"),
        (lambda: ChannelReducer(0), InvalidInput, "n_components=0"),
        (lambda: ChannelReducer(3, "PCA", color=2), InvalidInput, "sklearn.decomposition.PCA .*'color'"),
        (lambda: ChannelReducer(2).fit(-np.ones((3, 4))), InvalidInput, r"NMF.fit of \[3, 4\]: Negative values"),
        (lambda: ChannelReducer(2).transform(np.ones((3, 4))), InvalidInput, "not fitted"),
        (lambda: ChannelReducer(2).fit("acts"), InvalidInput, r"expected activations \[..., C\]"),
    ],
)
def test_what_cannot_be_reduced_is_explained(
    use: Callable[[], object], error: type[FeaturevizError], message: str
) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(error, match=message):
        use()


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InvalidInput, match=r"pip install 'featureviz\[compat\]'"):
        ChannelReducer()
