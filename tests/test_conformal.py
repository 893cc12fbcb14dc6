"""Conformal prediction is MAPIE's: skuq's estimators are what it wraps."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import MCDropout

pytest.importorskip("mapie")
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from mapie.conformity_scores import StdConformityScore
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor

N_SPLITS, N_CALIBRATION, N_TEST, LEVEL = 200, 99, 200, 0.9


def curve(n, seed):
    """Noise that grows with x."""
    random = np.random.default_rng(seed)
    X = random.uniform(-2, 2, (n, 1))
    return X, np.sin(2 * X[:, 0]) + random.normal(size=n) * (0.05 + 0.25 * (X[:, 0] + 2))


def classes(n, seed):
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, n)
    return random.normal(size=(n, 4)) + np.eye(3, 4)[y] * 1.5, np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def regressor():
    options = {"max_epochs": 60, "lr": 0.01, "module__activation": "relu", "random_state": 0}
    network = TorchRegressor(posterior=MCDropout(5), **options)
    return make_pipeline(StandardScaler(), network).fit(*curve(400, 0))


@pytest.fixture(scope="module")
def classifier():
    network = TorchClassifier(posterior=MCDropout(5), max_epochs=30, lr=0.01, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(*classes(300, 0))


class KnownRegressor(RegressorMixin, BaseEstimator):
    """Predictions of a fitted estimator that were made before: X holds their indices."""

    def __init__(self, mean=None, std=None):
        self.mean, self.std = mean, std
        self.n_features_in_ = 1

    def fit(self, X, y):
        return self

    def predict(self, X, return_std=False):
        index = np.asarray(X)[:, 0].astype(int)
        return (self.mean[index], self.std[index]) if return_std else self.mean[index]


class KnownClassifier(ClassifierMixin, BaseEstimator):
    def __init__(self, proba=None, classes_=None):
        self.proba, self.classes_ = proba, classes_
        self.n_features_in_ = 1

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return self.proba[np.asarray(X)[:, 0].astype(int)]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]


def check_coverage(coverages):
    """Against the beta-binomial law of split conformal coverage, split by split."""
    rank = int(np.ceil((N_CALIBRATION + 1) * LEVEL))
    law = stats.betabinom(N_TEST, rank, N_CALIBRATION + 1 - rank)
    counts = np.round(np.array(coverages) * N_TEST)
    low, high = law.ppf([0.005, 0.995])
    outside = ((counts < low) | (counts > high)).sum()
    assert outside <= stats.binom.ppf(0.999, N_SPLITS, 0.01)
    standard_error = law.std() / np.sqrt(N_SPLITS)
    assert abs(counts.mean() - law.mean()) < 4 * standard_error


def splits():
    """Fresh rows for each split, so that the splits are independent."""
    for split in range(N_SPLITS):
        start = split * (N_CALIBRATION + N_TEST)
        middle = start + N_CALIBRATION
        yield np.arange(start, middle)[:, None], np.arange(middle, middle + N_TEST)[:, None]


@pytest.mark.parametrize("score", ["absolute", "std"])
def test_split_coverage_of_regression(score, regressor):
    X, y = curve(N_SPLITS * (N_CALIBRATION + N_TEST), 1)
    known = KnownRegressor(*regressor.predict(X, return_std=True))
    coverages = []
    for apart, test in splits():
        conformal = SplitConformalRegressor(
            known,
            confidence_level=LEVEL,
            conformity_score=StdConformityScore() if score == "std" else "absolute",
            prefit=True,
        ).conformalize(apart, y[apart[:, 0]])
        interval = conformal.predict_interval(test)[1][..., 0]
        target = y[test[:, 0]]
        coverages.append(((interval[:, 0] <= target) & (target <= interval[:, 1])).mean())
    check_coverage(coverages)


def test_split_coverage_of_classification(classifier):
    X, y = classes(N_SPLITS * (N_CALIBRATION + N_TEST), 1)
    known = KnownClassifier(classifier.predict_proba(X), classifier.classes_)
    coverages = []
    index = np.searchsorted(classifier.classes_, y)
    for apart, test in splits():
        conformal = SplitConformalClassifier(
            known, confidence_level=LEVEL, conformity_score="lac", prefit=True
        ).conformalize(apart, y[apart[:, 0]])
        sets = conformal.predict_set(test)[1][..., 0]
        coverages.append(sets[np.arange(N_TEST), index[test[:, 0]]].mean())
    check_coverage(coverages)


def test_scores_in_units_of_the_std_adapt(regressor):
    X_apart, y_apart = curve(1000, 2)
    X, y = curve(4000, 3)
    quiet = X[:, 0] < -1
    for score, gap in (("absolute", 0.05), (StdConformityScore(), 0.0)):
        conformal = SplitConformalRegressor(
            regressor, confidence_level=LEVEL, conformity_score=score, prefit=True
        ).conformalize(X_apart, y_apart)
        low, high = conformal.predict_interval(X)[1][..., 0].T
        inside = (low <= y) & (y <= high)
        assert inside.mean() == pytest.approx(LEVEL, abs=0.03)
        uneven = inside[quiet].mean() - inside[X[:, 0] > 1].mean()
        assert uneven > 0.2 if gap else uneven < 0.13
        if not gap:
            assert (high - low)[X[:, 0] > 1].mean() > 1.5 * (high - low)[quiet].mean()


def test_a_fitted_network_is_not_fitted_again(classifier, regressor):
    before = regressor.predict(curve(50, 5)[0])
    SplitConformalRegressor(regressor, prefit=True).conformalize(*curve(100, 4))
    np.testing.assert_array_equal(regressor.predict(curve(50, 5)[0]), before)
    calibrated = TemperatureScaler(FrozenEstimator(classifier)).fit(*classes(200, 6))
    for score in ("lac", "aps"):
        conformal = SplitConformalClassifier(
            calibrated, confidence_level=LEVEL, conformity_score=score, prefit=True
        ).conformalize(*classes(300, 7))
        X, y = classes(1000, 8)
        predicted, sets = conformal.predict_set(X)
        assert set(predicted) <= set("abc")
        covered = sets[np.arange(1000), np.searchsorted(calibrated.classes_, y), 0]
        assert covered.mean() > 0.84


def test_cross_conformal():
    network = TorchRegressor(max_epochs=20, lr=0.01, random_state=0)
    X, y = curve(300, 1)
    conformal = CrossConformalRegressor(network, confidence_level=LEVEL, cv=3)
    low, high = conformal.fit_conformalize(*curve(300, 0)).predict_interval(X)[1][..., 0].T
    assert ((low <= y) & (y <= high)).mean() > 0.84
    network = TorchClassifier(max_epochs=20, lr=0.01, random_state=0)
    X, y = classes(300, 1)
    conformal = CrossConformalClassifier(network, confidence_level=LEVEL, cv=3)
    sets = conformal.fit_conformalize(*classes(300, 0)).predict_set(X)[1][..., 0]
    assert sets[np.arange(300), np.searchsorted(["a", "b", "c"], y)].mean() > 0.84


def test_a_scaled_regressor_gives_the_same_conformal_intervals(regressor):
    """Scores in units of the std do not depend on its scale."""
    scaled = VarianceScaler(FrozenEstimator(regressor)).fit(*curve(200, 4))
    found = [
        SplitConformalRegressor(
            model, confidence_level=LEVEL, conformity_score=StdConformityScore(), prefit=True
        )
        .conformalize(*curve(200, 5))
        .predict_interval(curve(20, 6)[0])[1]
        for model in (regressor, scaled)
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_too_few_rows_to_reach_the_level(regressor):
    """Rank ⌈6 · 0.9⌉ = 6 of 5 scores: refused, never silently the largest of them."""
    conformal = SplitConformalRegressor(regressor, confidence_level=0.9, prefit=True)
    with pytest.raises(ValueError, match="too low"):
        conformal.conformalize(*curve(5, 1)).predict_interval(curve(3, 2)[0])


def test_certain_probabilities_give_one_label():
    proba = np.repeat(np.eye(3)[[0, 1, 2]], 40, axis=0)
    known = KnownClassifier(proba, np.array(["a", "b", "c"]))
    index = np.arange(120)[:, None]
    for score in ("lac", "aps"):
        conformal = SplitConformalClassifier(
            known, confidence_level=0.9, conformity_score=score, prefit=True
        ).conformalize(index, known.predict(index))
        sets = conformal.predict_set(index)[1][..., 0]
        assert np.array_equal(sets, proba.astype(bool))


def test_empty_sets_and_how_to_forbid_them():
    """Of a doubtful row, after sure ones: "lac" gives no label at all, "aps" its likeliest."""
    sure = np.repeat(0.97 * np.eye(3) + 0.01, 33, axis=0)
    known = KnownClassifier(np.vstack([sure, [[0.4, 0.35, 0.25]]]), np.array(["a", "b", "c"]))
    apart, doubtful = np.arange(99)[:, None], np.array([[99]])
    sets = {}
    for score, options in (("lac", {}), ("aps", {"include_last_label": True})):
        conformal = SplitConformalClassifier(
            known, confidence_level=0.9, conformity_score=score, prefit=True
        ).conformalize(apart, np.repeat(["a", "b", "c"], 33))
        predicted = conformal.predict_set(doubtful, conformity_score_params=options)[1]
        sets[score] = predicted[0, :, 0].tolist()
    assert sets["lac"] == [False, False, False]
    assert sets["aps"][0]
