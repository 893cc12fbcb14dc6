"""Arguments that make no sense get an error that says so, not one of Python's own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

import skuq
import skuq.metrics as m
from skuq import TorchClassifier, TorchRegressor
from skuq.augmentation import TestTimeAugmentation as Augmentation  # pytest would collect it
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import MCDropout

CHEAP = {"posterior": MCDropout(3), "max_epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def fitted(blobs, diabetes):
    return TorchClassifier(**CHEAP).fit(*blobs), TorchRegressor(**CHEAP).fit(*diabetes)


@pytest.mark.parametrize(
    "level", [[0.9], None, "0.9", np.array([0.8, 0.9]), np.nan, True, 1 + 0j, {0.9}], ids=repr
)
def test_levels(level, fitted, diabetes):
    X, y = diabetes[0][:3], diabetes[1][:3]
    interval = fitted[1].predict_interval(X)
    message = "confidence_level must be one number strictly between 0 and 1, got"
    for ask in (
        lambda: fitted[1].predict_interval(X, level),
        lambda: skuq.predict_interval(fitted[1], X, level),
        lambda: m.interval_score(y, interval, confidence_level=level),
        lambda: m.picp_scorer(level),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


def test_a_level_may_be_of_any_kind_of_number(fitted, diabetes):
    X = diabetes[0][:3]
    expected = fitted[1].predict_interval(X, 0.5)
    for level in (np.float32(0.5), np.array(0.5)):
        assert np.array_equal(fitted[1].predict_interval(X, level), expected)


@pytest.mark.parametrize("q", [None, "a", [], [[0.1]], [0.1, "x"], [2], {0.1}, 1 + 0j], ids=repr)
def test_quantiles(q, fitted, diabetes):
    with pytest.raises(ValueError, match="q must be one or more levels strictly between 0 and 1"):
        fitted[1].predict_quantiles(diabetes[0][:3], q)


@pytest.mark.parametrize("name", [None, 3, ["total"], np.array(["total"]), {}], ids=repr)
def test_kinds_and_measures(name, fitted, blobs, diabetes):
    for estimator, X in zip(fitted, (blobs[0], diabetes[0])):
        with pytest.raises(ValueError, match="kind must be one of 'total', 'aleatoric'"):
            estimator.predict_uncertainty(X[:3], kind=name)
    with pytest.raises(ValueError, match="measure must be one of 'entropy', 'variance'"):
        fitted[0].predict_uncertainty(blobs[0][:3], measure=name)


TEXT = ["a", "b", "c"] * 80
LABELS = {
    "None among numbers": (np.array([0, None, 1, 2] * 60), "60 missing .*None at place 1"),
    "None among texts": ([None, *TEXT[1:]], "1 missing .*None at place 0"),
    "NaN among texts": (np.array([*TEXT[1:], np.nan], dtype=object), "nan at place 239"),
    "NA": (pd.Series([pd.NA, *TEXT[1:]], dtype="string"), "<NA> at place 0"),
    "numbers among texts": ([1, *TEXT[1:]], "text and other labels, such as '[abc]' and 1"),
}


@pytest.mark.parametrize("labels", LABELS)
def test_labels(labels, fitted, blobs):
    X, (y, message) = blobs[0], LABELS[labels]
    for estimator in (
        TorchClassifier(**CHEAP),
        TemperatureScaler(TorchClassifier(**CHEAP), cv=2),
        TemperatureScaler(FrozenEstimator(fitted[0])),
        Augmentation(TorchClassifier(**CHEAP)),
    ):
        with pytest.raises(ValueError, match=f"y contains .*{message}"):
            estimator.fit(X, y)
    with pytest.raises(ValueError, match=f"y_true contains .*{message}"):
        m.expected_calibration_error(y, fitted[0].predict_proba(X))
    with pytest.raises(ValueError, match=f"y contains .*{message}"):
        m.ece_scorer(fitted[0], X, y)
    with pytest.raises(ValueError, match=f"groups contains .*{message}"):
        TorchClassifier(early_stopping=True, **CHEAP).fit(X, blobs[1], groups=y)
    with pytest.raises(ValueError, match=f"classes contains .*{message}"):
        TorchClassifier(**CHEAP).partial_fit(X, blobs[1], classes=y)


def test_targets_and_class_weights(blobs, diabetes):
    X, y = diabetes
    with pytest.raises(ValueError, match="y contains NaN or None"):
        TorchRegressor(**CHEAP).fit(X, np.array([None, *y[1:]]))
    with pytest.raises(ValueError, match=r"class_weight\[0\] must be finite and >= 0, got 'a'"):
        TorchClassifier(class_weight={0: "a"}, **CHEAP).fit(*blobs)


def test_messages_name_what_is_frozen(fitted, blobs, diabetes):
    classifier, regressor = map(FrozenEstimator, fitted)
    for make, frozen, (X, y), name in (
        (TemperatureScaler, regressor, diabetes, "TorchRegressor"),
        (VarianceScaler, classifier, blobs, "TorchClassifier"),
    ):
        with pytest.raises(TypeError, match=f"{make.__name__} needs a .*, got {name}$"):
            make(frozen).fit(X, y)
    with pytest.raises(ValueError, match="needs a classifier, got TorchRegressor"):
        Augmentation(regressor, vote="mode").fit(*diabetes)
    with pytest.raises(ValueError, match="the TorchClassifier predicts one"):
        TemperatureScaler(classifier).fit(blobs[0] + 1, np.eye(3, dtype=int)[blobs[1]])
    for make in (TemperatureScaler, Augmentation):
        with pytest.raises(NotFittedError, match="This TorchClassifier instance is not fitted"):
            make(FrozenEstimator(TorchClassifier())).fit(*blobs)
    assert "Uncertainty of TorchRegressor" in skuq.report(regressor, *diabetes).html
