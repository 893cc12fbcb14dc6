"""Rows left out: shuffled from a seed, stratified, in groups, or as a splitter says."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit

from skuq._meta import folds_of
from skuq.calibration import (
    MatrixScaler,
    QuantileRecalibrator,
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
)

CALIBRATORS = [
    (TemperatureScaler, LogisticRegression()),
    (VectorScaler, LogisticRegression()),
    (MatrixScaler, LogisticRegression()),
    (VarianceScaler, BayesianRidge()),
    (QuantileRecalibrator, BayesianRidge()),
]


def folds(cv, y, groups=None, *, classifies=False, random_state=0):
    X = np.zeros((len(y), 1))
    return folds_of(cv, X, y, groups, classifies=classifies, random_state=random_state)


@pytest.mark.parametrize("cv", [5, None])
@pytest.mark.parametrize("classifies", [False, True])
def test_a_number_of_folds_is_of_shuffled_rows(cv, classifies):
    y = np.repeat([0, 1], [100, 50]) if classifies else np.arange(150.0)
    made = folds(cv, y, classifies=classifies)
    assert len(made) == 5
    left_out = np.concatenate([test for _, test in made])
    assert np.array_equal(np.sort(left_out), np.arange(150))
    for train, test in made:
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(150))
        assert np.ptp(test) > 100  # rows from everywhere
        if classifies:
            assert np.bincount(y[test]).tolist() == [20, 10]
    again, other = folds(cv, y, classifies=classifies), folds(cv, y, random_state=1)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(made, again))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(made, other))


@pytest.mark.parametrize("classifies", [False, True])
def test_groups_stay_together(classifies):
    groups = np.arange(120) // 4
    y = groups % 2 if classifies else np.arange(120.0)
    for train, test in folds(3, y, groups, classifies=classifies):
        assert not np.intersect1d(groups[train], groups[test]).size
        assert np.ptp(test) > 60
        if classifies:
            assert abs(y[test].mean() - 0.5) < 0.1


@pytest.mark.parametrize("cv", [KFold(3), StratifiedKFold(3), TimeSeriesSplit(3)], ids=str)
def test_a_splitter_is_taken_as_it_is(cv):
    y = np.arange(60) % 2
    X = np.zeros((60, 1))
    for made in (folds(cv, y, classifies=True), folds(list(cv.split(X, y)), y, classifies=True)):
        for (_, test), (_, expected) in zip(made, cv.split(X, y), strict=True):
            assert np.array_equal(test, expected)


@pytest.mark.parametrize(("calibrator", "estimator"), CALIBRATORS, ids=lambda v: str(v))
def test_every_calibrator_shuffles_by_its_random_state(calibrator, estimator):
    random = np.random.default_rng(0)
    X = random.normal(size=(90, 2))
    y = X[:, 0] + random.normal(size=90)
    if calibrator._classifies:
        y = np.digitize(y, [-0.5, 0.5])
    seen = []

    class Watched(type(estimator)):
        def fit(self, X, y, sample_weight=None):
            seen.append(X[:, 0])
            return super().fit(X, y)

        __init__ = type(estimator).__init__

    watched = Watched(**estimator.get_params())
    parameters = inspect.signature(calibrator).parameters
    assert parameters["random_state"].default == 0
    fits = {}
    for state in (0, 0, 3):
        seen.clear()
        calibrator(clone(watched), cv=3, random_state=state).fit(X, y)
        expected = folds(3, y, classifies=calibrator._classifies, random_state=state)
        for rows, (train, _) in zip(seen[1:], expected, strict=True):
            assert np.array_equal(rows, X[train, 0])
        fits.setdefault(state, []).append(np.concatenate(seen))
    assert np.array_equal(*fits[0]) and not np.array_equal(fits[0][0], fits[3][0])


def test_rows_in_order_do_not_spoil_the_factor():
    """A range of x in each fold: a network that lacks one errs there as the whole one does not."""
    random = np.random.default_rng(0)
    x = np.linspace(-3, 3, 300)
    X = np.stack([x, x**2 * (x > 0), np.maximum(x - 2, 0)], axis=1)
    y = X @ [1.0, 1.0, 5.0] + random.normal(0, 0.3, 300)
    ordered = VarianceScaler(BayesianRidge(), cv=KFold(5)).fit(X, y).scale_
    shuffled = VarianceScaler(BayesianRidge(), cv=5, random_state=0).fit(X, y).scale_
    assert ordered > 1.3
    assert shuffled == pytest.approx(1, abs=0.1)
