"""Bad input is an error that says what to do."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB

from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.novelty import NoveltyDetector
from skuq.novelty._measures import OUTPUT_MEASURES
from skuq.posteriors import PointEstimate


@pytest.mark.parametrize("contamination", [0, -0.1, 0.51, 1, "auto", None])
def test_contamination(contamination):
    with pytest.raises(ValueError, match="'contamination' parameter of NoveltyDetector"):
        NoveltyDetector(contamination=contamination).fit(np.eye(5))


def test_measures(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="'measure' parameter of NoveltyDetector"):
        NoveltyDetector(measure="distance").fit(X)
    for measure in [*OUTPUT_MEASURES, lambda e, X: X]:
        with pytest.raises(ValueError, match="needs an estimator, got estimator=None"):
            NoveltyDetector(measure=measure).fit(X)
    with pytest.raises(ValueError, match="relative_mahalanobis' compares classes"):
        NoveltyDetector(measure="relative_mahalanobis").fit(X)
    with pytest.raises(TypeError, match=r"features of a network, but GaussianNB has none"):
        NoveltyDetector(GaussianNB()).fit(X, y)
    with pytest.raises(TypeError, match="LinearRegression has no predictive distribution"):
        NoveltyDetector(LinearRegression(), measure="entropy").fit(X, y)
    with pytest.raises(TypeError, match=r"needs a classifier, got .*'epistemic'"):
        NoveltyDetector(TorchRegressor(max_epochs=1), measure="entropy").fit(X, y)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda e, X: np.where(np.arange(len(X)) == 3, np.nan, 1.0), "gave nan for row 3"),
        (lambda e, X: np.full(len(X), np.inf), "gave inf for row 0"),
        (lambda e, X: np.zeros((len(X), 2)), r"of shape \(800,\), got \(800, 2\)"),
        (lambda e, X: np.zeros(3), r"of shape \(800,\), got \(3,\)"),
    ],
)
def test_functions_that_give_no_scores(answer, message, network, known):
    detector = NoveltyDetector(FrozenEstimator(network), measure=answer)
    with pytest.raises(ValueError, match=message):
        detector.fit(known[2])
    with pytest.raises(NotFittedError):
        detector.predict(known[2])


def test_labels(network, known):
    _, _, X, y, _ = known
    frozen = NoveltyDetector(FrozenEstimator(network))
    with pytest.raises(ValueError, match="needs their labels"):
        frozen.fit(X)
    with pytest.raises(ValueError, match="800 rows, but y has 799 labels"):
        frozen.fit(X, y[1:])
    with pytest.raises(ValueError, match=r"each class of the estimator.*got \[3\]"):
        frozen.fit(X[y == 3], y[y == 3])
    with pytest.raises(ValueError, match="each class of the estimator"):
        frozen.fit(X, y + 1)
    with pytest.raises(ValueError, match="missing label"):
        frozen.fit(X, [None, *y[1:]])
    with pytest.raises(ValueError, match="requires y"):
        NoveltyDetector(TorchClassifier()).fit(X)
    for measure in ("mahalanobis", "entropy"):
        fresh = NoveltyDetector(TorchClassifier(), measure=measure)
        with pytest.raises(ValueError, match="y contains 1 missing label"):
            fresh.fit(X, [None, *y[1:]])
        with pytest.raises(ValueError, match="Input y contains NaN"):
            fresh.fit(X, [np.nan, *y[1:]])
    for measure in ("knn", "energy"):  # which need no labels
        NoveltyDetector(FrozenEstimator(network), measure=measure).fit(X)


def test_rows(network, known):
    X, y = known[2], known[3]
    for rows in (X[:0], X[:1]):
        with pytest.raises(ValueError, match=r"sample"):
            NoveltyDetector().fit(rows)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        NoveltyDetector(FrozenEstimator(network), measure="knn").fit(X[:1])
    with pytest.raises(ValueError, match="NaN"):
        NoveltyDetector().fit(np.where(X > 0.9, np.nan, X))
    detector = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        detector.predict_novelty(np.full((2, 64), np.nan))
    with pytest.raises(ValueError, match="features"):
        detector.predict_novelty(X[:, :10])
    with pytest.raises(NotFittedError):
        NoveltyDetector(FrozenEstimator(TorchClassifier())).fit(X, y)


@pytest.mark.parametrize("around", [NoveltyDetector, TemperatureScaler])
def test_folds_without_rows(around, blobs):
    X, y = blobs
    options = {"measure": "entropy"} if around is NoveltyDetector else {}
    inner, every = LogisticRegression(C=1e-3), np.arange(240)
    used_up = around(inner, cv=KFold(3).split(X), **options).fit(X, y)
    for cv in ([], used_up.cv):
        with pytest.raises(ValueError, match=r"gave no split.*give list\(splits\)"):
            around(inner, cv=cv, **options).fit(X, y)
    with pytest.raises(ValueError, match="rows left out, got 240 and 0 in fold 0"):
        around(inner, cv=[(every, every[:0])], **options).fit(X, y)


def test_rows_that_the_network_has_seen(network, known):
    with pytest.warns(UserWarning, match=r"trained on 100% of the rows.*what is normal"):
        NoveltyDetector(FrozenEstimator(network)).fit(known[0], known[1])


def test_a_failed_fit_leaves_no_fitted_detector(blobs):
    X, y = blobs
    detector = NoveltyDetector(TorchClassifier(posterior=PointEstimate(), max_epochs=1)).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        detector.fit(np.full_like(X, np.nan), y)
    with pytest.raises(NotFittedError):
        detector.predict(X)
