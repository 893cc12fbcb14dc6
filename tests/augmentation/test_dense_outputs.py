"""Views of images for networks that answer for each pixel."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.base import BaseEstimator, ClassifierMixin

from skuq._distributions._softmax import Softmax
from skuq._predict import ClassifierPredictions
from skuq.augmentation import Flip, Shift
from tests.augmentation.helpers import frozen, larger


class Pixelwise(ClassifierPredictions, ClassifierMixin, BaseEstimator):
    """Two draws of a classifier of every pixel by its value and, less, by what is left of it."""

    def fit(self, X, y):
        self.classes_ = np.arange(3)
        return self

    def _reduce(self, X, reduction, *aligned):
        x = torch.as_tensor(X).double()[:, 0]
        left = 0.1 * x.roll(1, -1)
        logits = torch.stack([torch.stack([x, k - x, left], -1) for k in (0.5, 0.7)])
        reduced = reduction(Softmax(logits), *map(torch.as_tensor, aligned))
        return tuple(map(np.asarray, reduced)) if isinstance(reduced, tuple) else reduced.numpy()


class PlainFlip:
    """A user's view with an inverse."""

    def __call__(self, X):
        return X.flip(-1)

    def inverse(self, outputs):
        return outputs.flip(-1)


@pytest.mark.parametrize("view", [Flip(), PlainFlip(), Shift(1, fill="wrap")])
def test_dense_outputs_are_moved_back(images, view):
    X, y = images[0][:10], images[1][:10]
    dense = Pixelwise().fit(X, y)
    augmented = frozen(dense, view, X, y)
    moved_rows = augmented._evaluation.views[0](torch.from_numpy(X).double())
    log_proba = torch.from_numpy(dense._log_proba(moved_rows.numpy())).movedim(-1, 1)
    back = augmented._evaluation.views[0].inverse(log_proba).movedim(1, -1).numpy()
    expected = (dense.predict_proba(X) + np.exp(back)) / 2
    proba = augmented.predict_proba(X)
    assert proba.shape == (10, 8, 8, 3)
    np.testing.assert_allclose(proba, expected, atol=1e-12)
    parts = augmented.predict_uncertainty(X, "nested")
    assert parts.total.shape == (10, 8, 8)
    np.testing.assert_allclose(parts.total, entropy(proba, axis=-1), atol=1e-12)


@pytest.mark.parametrize("view", [Shift(), larger])
def test_dense_outputs_need_an_inverse(images, view):
    X, y = images[0][:10], images[1][:10]
    with pytest.raises(ValueError, match="Dense outputs need one"):
        frozen(Pixelwise().fit(X, y), view, X, y)
