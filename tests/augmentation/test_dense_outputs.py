"""Views of images for networks that answer for each pixel."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skuq.augmentation import Flip, Shift, TestTimeAugmentation
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli
from tests.augmentation.helpers import frozen, larger
from tests.networks.dense import images, segmenter


class PlainFlip:
    """A user's view with an inverse."""

    def __call__(self, X):
        return X.flip(-1)

    def inverse(self, outputs):
        return outputs.flip(-1)


@pytest.fixture(scope="module")
def fitted():
    X, y = images()
    return segmenter().fit(X, y)


@pytest.mark.parametrize(
    ("view", "moved", "back"),
    [
        (Flip(), lambda X: X[..., ::-1], lambda p: p[..., ::-1]),
        (PlainFlip(), lambda X: X[..., ::-1], lambda p: p[..., ::-1]),
        (Flip(-2), lambda X: X[..., ::-1, :], lambda p: p[..., ::-1, :]),
    ],
)
def test_probabilities_and_draws_are_moved_back(fitted, view, moved, back):
    X, y = images(seed=1)
    augmented = frozen(fitted, view, X, y)
    draws = fitted.predict_draws(X)
    there = back(fitted.predict_draws(moved(X).copy()))
    proba = augmented.predict_proba(X)
    assert proba.shape == (6, 3, 6, 4)
    np.testing.assert_allclose(proba, (draws + there).mean(0) / 2, rtol=0, atol=1e-12)
    assert np.abs(proba - (draws + there[..., ::-1]).mean(0) / 2).max() > 0.01
    np.testing.assert_allclose(augmented.predict_draws(X), (draws + there) / 2, rtol=0, atol=1e-12)
    assert np.array_equal(augmented.predict(X), proba.argmax(1))
    parts = augmented.predict_uncertainty(X, "nested")
    assert parts.total.shape == (6, 6, 4)
    np.testing.assert_allclose(parts.total, entropy(proba, axis=1), rtol=0, atol=1e-12)


def test_a_random_view_is_undone_by_its_own_numbers(fitted):
    X, y = images(seed=1)
    augmented = frozen(fitted, Shift(2, fill="wrap"), X, y)
    (view,) = augmented._evaluation.views
    columns = np.broadcast_to(np.arange(24.0).reshape(6, 4), (1, 2, 6, 4))
    moved = view(torch.tensor(columns.copy()))
    assert not np.array_equal(moved, columns)
    assert np.array_equal(view.inverse(moved), columns)
    both = (
        fitted.predict_proba(X)
        + view.inverse(torch.tensor(fitted.predict_proba(view(torch.tensor(X)).numpy()))).numpy()
    )
    np.testing.assert_allclose(augmented.predict_proba(X), both / 2, rtol=0, atol=1e-12)


def test_chunks_change_nothing(fitted, monkeypatch):
    X, y = images(7, seed=2)
    augmented = frozen(fitted, [Flip(), Flip(-2)], X, y)
    whole = augmented.predict_proba(X)
    monkeypatch.setattr(fitted._engine, "n_rows", 2)
    monkeypatch.setattr(fitted._engine, "n_reduced", 7)
    monkeypatch.setattr(augmented._evaluation, "_bytes_per_row", 2**40)
    np.testing.assert_allclose(augmented.predict_proba(X), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("view", [Shift(), larger])
def test_masks_need_an_inverse(fitted, view):
    X, y = images()
    with pytest.raises(ValueError, match="Dense outputs need one"):
        frozen(fitted, view, X, y)


def test_inside_and_around_a_calibrator_and_a_pipeline(fitted):
    X, y = images(seed=3)
    inside = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    augmented = frozen(inside, Flip(), X, y)
    expected = inside.predict_proba(X) + inside.predict_proba(X[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(augmented.predict_proba(X), expected / 2, rtol=0, atol=1e-12)
    pipeline = make_pipeline(FunctionTransformer(np.negative), segmenter()).fit(X, y)
    with pytest.raises(ValueError, match="as the last step of the Pipeline"):
        frozen(pipeline, Flip(), X, y)
    last = make_pipeline(FunctionTransformer(), TestTimeAugmentation(segmenter(), Flip()))
    assert last.fit(X, y).predict_proba(X).shape == (6, 3, 6, 4)
    assert 0 < last.score(X, y) <= 1


def test_several_masks_are_moved_back():
    X, y = images()
    masks = np.stack([y == 0, y > 1], axis=1).astype(int)
    several = segmenter(likelihood=Bernoulli()).fit(X, masks)
    augmented = frozen(several, Flip(), X, masks)
    expected = several.predict_proba(X) + several.predict_proba(X[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(augmented.predict_proba(X), expected / 2, rtol=0, atol=1e-12)
    assert augmented.predict(X).shape == (6, 2, 6, 4)
    assert augmented.predict_uncertainty(X, "nested").within_views.shape == (6, 2, 6, 4)


def test_votes_are_for_one_label_per_row(fitted):
    X, y = images()
    with pytest.raises(ValueError, match="one label per row"):
        frozen(fitted, Flip(), X, y, vote="confidence")
    with pytest.raises(ValueError, match="one label per row"):
        frozen(fitted, Flip(), X, y).predict_votes(X)
