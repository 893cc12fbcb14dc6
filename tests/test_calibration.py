"""Temperature scaling: the right T, on any labels, and never for the worse."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._temperature import _loss, _slope
from skuq.calibration import TemperatureScaler, fit_temperature
from skuq.metrics import expected_calibration_error
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate


def planted(temperature, n=20_000, n_draws=0, seed=0):
    """Labels drawn from (the mean of) softmax(z), and logits T·z."""
    random = np.random.default_rng(seed)
    z = 1.5 * random.normal(size=(max(n_draws, 1), n, 4))
    proba = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    cumulative = proba.mean(0).cumsum(1)
    y = (random.random((n, 1)) > cumulative).sum(1).clip(max=3)
    return temperature * (z if n_draws else z[0]), y


def tensors(logits, y):
    draws = torch.as_tensor(logits)
    draws = draws if draws.ndim == 3 else draws[None]
    weight = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
    return draws, torch.as_tensor(y), weight


# -- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("n_draws", [0, 5])
def test_a_planted_temperature_is_found(temperature, n_draws):
    logits, y = planted(temperature, n_draws=n_draws)
    assert fit_temperature(logits, y) == pytest.approx(temperature, rel=0.05)


def test_newton_reaches_the_stationary_point():
    """There the mean logit of the label equals the mean expected logit."""
    logits, y = planted(2.5)
    arrays = tensors(logits, y)
    fitted = fit_temperature(logits, y)
    assert abs(_slope(*arrays, 1 / fitted)[0]) <= 1e-10
    scipy = minimize_scalar(lambda t: _loss(*arrays, t), bounds=(0.1, 10), method="bounded")
    assert _loss(*arrays, fitted) <= scipy.fun + 1e-15


def test_slope_is_the_derivative_of_the_loss():
    arrays = tensors(*planted(2.5, n=50))
    beta, h = 0.7, 1e-5
    first, second = _slope(*arrays, beta)
    losses = [_loss(*arrays, 1 / (beta + d)) for d in (-h, 0, h)]
    assert first == pytest.approx((losses[2] - losses[0]) / (2 * h), rel=1e-6)
    assert second == pytest.approx((losses[2] - 2 * losses[1] + losses[0]) / h**2, rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.filterwarnings("ignore:the temperature is at its bound")
def test_never_worse_than_one_and_as_good_as_a_fine_grid(seed):
    random = np.random.default_rng(seed)
    logits = random.lognormal(sigma=2) * random.normal(size=(3, 8, 3))
    y = np.r_[0, 1, random.integers(0, 3, 6)]
    arrays = tensors(logits, y)
    grid = np.exp(np.linspace(np.log(0.01), np.log(100), 2000))
    best = min(_loss(*arrays, t) for t in grid)
    fitted = _loss(*arrays, fit_temperature(logits, y))
    assert fitted <= best + 1e-6
    assert fitted <= _loss(*arrays, 1.0)


def test_weights_are_repetitions():
    logits, y = planted(2.0, n=500)
    counts = np.random.default_rng(1).integers(0, 4, 500)
    repeated = np.repeat(np.arange(500), counts)
    for stack in (logits, np.stack([logits, 0.5 * logits])):
        weighted = fit_temperature(stack, y, sample_weight=counts)
        assert weighted == pytest.approx(
            fit_temperature(stack[..., repeated, :], y[repeated]), rel=1e-4
        )


def test_shifts_blocks_and_kinds_of_arrays(monkeypatch):
    logits, y = planted(2.0, n=700)
    expected = fit_temperature(logits, y)
    shift = np.random.default_rng(0).normal(size=(700, 1)) * 100
    assert fit_temperature(logits + shift, y) == pytest.approx(expected)
    assert fit_temperature(torch.tensor(logits), torch.tensor(y)) == expected
    assert fit_temperature(logits.astype(np.float32), y.astype(np.int8)) == pytest.approx(expected)
    monkeypatch.setattr("skuq._temperature._BLOCK_NUMBERS", 100)
    assert fit_temperature(logits, y) == pytest.approx(expected)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_perfectly_separable_data(n_draws):
    y = np.arange(30) % 3
    logits = np.repeat((np.eye(3)[y] * 4)[None], n_draws, axis=0)
    with pytest.warns(ConvergenceWarning, match="at its bound, T = 0.01") as record:
        assert fit_temperature(logits, y) == 0.01
    assert len(record) == 1


@pytest.mark.parametrize("n_draws", [1, 3])
def test_logits_that_are_all_wrong(n_draws):
    y = np.arange(30) % 3
    logits = np.repeat((np.eye(3)[y] * -4)[None], n_draws, axis=0)
    with pytest.warns(ConvergenceWarning, match="T = 100"):
        assert fit_temperature(logits, y) == 100


def test_constant_logits():
    with pytest.warns(ConvergenceWarning, match="does not depend"):
        assert fit_temperature(np.zeros((10, 3)), np.arange(10) % 3) == 1


def test_saturated_logits():
    """±1e4, where probabilities are 0 and 1: the loss is finite and T has a lot to soften."""
    logits, y = planted(2e4, n=300)
    assert np.abs(logits).max() > 5e4
    with pytest.warns(ConvergenceWarning, match="T = 100"):
        assert fit_temperature(logits, y) == 100
    assert np.isfinite(_loss(*tensors(logits, y), 0.01))


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (np.zeros(3), [0, 1, 2], "must have shape"),
        (np.full((2, 2), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 2)), [0, 2], "from 0 to 1"),
        (np.zeros((2, 2)), [1, 2], "encode labels"),
        (np.zeros((2, 2)), [0], r"shape \(2,\)"),
        (np.zeros((2, 2)), [1, 1], "single class"),
    ],
)
def test_bad_arrays(logits, y, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, np.array(y))


@pytest.mark.parametrize("weight", [[1, -1], [0, 0], [1], [1, np.nan]])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match="sample_weight must be 2 finite"):
        fit_temperature(np.eye(2), np.array([0, 1]), sample_weight=weight)


# -- the meta-estimator -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def split():
    X, y = make_classification(
        900, 12, n_informative=6, n_classes=3, flip_y=0.2, random_state=0, class_sep=1.5
    )
    return train_test_split(X, y, test_size=0.5, random_state=0)


def overconfident(posterior=None):
    return TorchClassifier(
        posterior=posterior or PointEstimate(), max_epochs=100, lr=0.01, random_state=0
    )


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(5), DeepEnsemble(2)], ids=str)
def test_every_answer_is_calibrated(posterior, split):
    X, X_test, y, y_test = split
    scaler = TemperatureScaler(overconfident(posterior), cv=3).fit(X, y)
    temperature = scaler.temperature_
    assert temperature > 1.3
    raw = np.log(scaler.estimator_.predict_draws(X_test))
    expected = np.exp(raw / temperature)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(scaler.predict_draws(X_test), expected, atol=1e-9)
    np.testing.assert_allclose(scaler.predict_proba(X_test), expected.mean(0), atol=1e-9)
    parts = scaler.predict_uncertainty(X_test, kind="all")
    np.testing.assert_allclose(parts, skuq.uncertainty.entropy_decomposition(expected), atol=1e-9)
    proba = scaler.predict_proba(X_test)
    assert np.array_equal(scaler.predict(X_test), scaler.classes_[proba.argmax(1)])
    before, after = (log_loss(y_test, e.predict_proba(X_test)) for e in (scaler.estimator_, scaler))
    assert after < before
    if isinstance(posterior, PointEstimate):
        assert np.array_equal(scaler.predict(X_test), scaler.estimator_.predict(X_test))


def test_prefit_is_not_fitted_again(split):
    X, X_test, y, y_test = split
    network = overconfident(MCDropout(5)).fit(X, y)
    before = network.predict_proba(X)
    scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_test, y_test)
    assert np.array_equal(network.predict_proba(X), before)
    expected = fit_temperature(np.log(network.predict_draws(X_test)), y_test)
    assert scaler.temperature_ == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(skuq.predict_uncertainty(scaler, X), scaler.predict_uncertainty(X))


@pytest.mark.parametrize("labels", ["abc", (-1, 0, 1), (1, 2, 3), (10, 20, 30)], ids=str)
def test_labels_of_any_kind(labels, split):
    X, X_test, y, y_test = split
    network = LogisticRegression(C=1e6).fit(5 * X, y)
    labels = np.array(list(labels))
    named = LogisticRegression(C=1e6).fit(5 * X, labels[y])
    expected = TemperatureScaler(FrozenEstimator(network)).fit(X_test, y_test)
    scaler = TemperatureScaler(FrozenEstimator(named)).fit(X_test, labels[y_test])
    assert scaler.temperature_ == pytest.approx(expected.temperature_, rel=1e-3)
    assert np.array_equal(scaler.classes_, labels)
    assert set(scaler.predict(X_test)) <= set(labels)


def test_two_classes(split):
    X, X_test, y, y_test = split
    y, y_test = np.where(y > 0, 1, -1), np.where(y_test > 0, 1, -1)
    scaler = TemperatureScaler(overconfident(), cv=3).fit(X, y)
    odds = scaler.decision_function(X_test)
    np.testing.assert_allclose(
        odds, scaler.estimator_.decision_function(X_test) / scaler.temperature_, atol=1e-6
    )
    assert log_loss(y_test, scaler.predict_proba(X_test)) < 1


@pytest.mark.parametrize("missing_from", ["calibration", "fold"])
def test_a_missing_class(missing_from, split):
    X, X_test, y, y_test = split
    if missing_from == "calibration":
        network = overconfident().fit(X, y)
        kept = y_test < 2
        scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_test[kept], y_test[kept])
    else:
        train = np.flatnonzero(y < 2)[::2]
        folds = [(train, np.setdiff1d(np.arange(len(y)), train))]
        scaler = TemperatureScaler(overconfident(), cv=folds).fit(X, y)
        raw = overconfident().fit(X[train], y[train])
        seen = np.setdiff1d(np.flatnonzero(y < 2), train)
        expected = fit_temperature(np.log(raw.predict_proba(X[seen])), y[seen])
        assert scaler.temperature_ == pytest.approx(expected, rel=1e-4)
    assert scaler.predict_proba(X_test).shape == (len(X_test), 3)
    assert np.isfinite(scaler.temperature_) and scaler.temperature_ > 1


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(20, random_state=0),
        SVC(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), overconfident()),
        GridSearchCV(overconfident(), {"lr": [0.01]}, cv=2),
    ],
    ids=str,
)
def test_around_any_classifier(estimator, split):
    X, X_test, y, y_test = split
    scaler = TemperatureScaler(estimator, cv=3).fit(X, y)
    np.testing.assert_allclose(scaler.predict_proba(X_test).sum(1), 1)
    assert log_loss(y_test, scaler.predict_proba(X_test)) < np.log(3)
    assert scaler.predict_uncertainty(X_test).shape == y_test.shape


def test_inside_of_a_pipeline(split):
    X, X_test, y, _ = split
    scaler = TemperatureScaler(overconfident(MCDropout(4)), cv=2)
    fitted = make_pipeline(StandardScaler(), scaler).fit(X, y)
    assert skuq.predict_uncertainty(fitted, X_test, "epistemic").shape == (len(X_test),)


def test_sample_weight_reaches_estimator_and_temperature(split):
    X, _, y, _ = split
    weight = np.where(y == 0, 10.0, 1.0)
    weighted = TemperatureScaler(LogisticRegression(), cv=3).fit(X, y, sample_weight=weight)
    assert np.array_equal(
        weighted.estimator_.coef_, LogisticRegression().fit(X, y, sample_weight=weight).coef_
    )
    assert (
        weighted.temperature_
        != TemperatureScaler(LogisticRegression(), cv=3).fit(X, y).temperature_
    )


def test_scores_of_pairs_of_classes_are_not_taken_for_scores_of_classes(split):
    X, X_test, y, _ = split
    pairs = SVC(decision_function_shape="ovo").fit(X, y)
    with pytest.raises(TypeError, match="one score per class"):
        TemperatureScaler(FrozenEstimator(pairs)).fit(X, y)
    raw = SVC(decision_function_shape="ovr").fit(X, y)
    scaler = TemperatureScaler(FrozenEstimator(raw)).fit(X, y)
    assert np.array_equal(scaler.predict(X_test), raw.predict(X_test))


def test_groups_reach_the_folds(split):
    X, _, y, _ = split
    groups = np.arange(len(y)) // 10
    scaler = TemperatureScaler(LogisticRegression(), cv=GroupKFold(3)).fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    expected = TemperatureScaler(LogisticRegression(), cv=folds).fit(X, y)
    assert scaler.temperature_ == expected.temperature_


class Unscored(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self


def test_what_cannot_be_calibrated(split):
    X, _, y, _ = split
    with pytest.raises(TypeError, match="Unscored has neither predict_proba"):
        TemperatureScaler(Unscored()).fit(X, y)
    with pytest.raises(ValueError, match="does not take it"):
        TemperatureScaler(Unscored()).fit(X, y, sample_weight=np.ones(len(y)))
    with pytest.raises(ValueError, match=r"labels .* that the estimator was not"):
        network = LogisticRegression().fit(X, y)
        TemperatureScaler(FrozenEstimator(network)).fit(X, y + 1)
    with pytest.raises(ValueError, match="'objective' parameter"):
        TemperatureScaler(LogisticRegression(), objective="accuracy").fit(X, y)
    with pytest.raises(TypeError, match="needs a classifier, got TorchRegressor"):
        TemperatureScaler(TorchRegressor()).fit(X, X[:, 0])


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_falls_on_an_overconfident_net(seed):
    X, y = load_digits(return_X_y=True)
    X, rest, y, y_rest = train_test_split(X / 16, y, train_size=300, random_state=seed)
    X_calibration, X_test, y_calibration, y_test = train_test_split(
        rest, y_rest, test_size=0.5, random_state=seed
    )
    network = TorchClassifier(
        posterior=PointEstimate(), max_epochs=150, lr=0.01, random_state=seed, module__dropout=0.0
    ).fit(X, y)
    scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_calibration, y_calibration)
    before, after = (
        expected_calibration_error(y_test, e.predict_proba(X_test)) for e in (network, scaler)
    )
    assert scaler.temperature_ > 1 and after < before
