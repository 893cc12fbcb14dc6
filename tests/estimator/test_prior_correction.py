"""Probabilities of a network that was trained with weights of the classes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli, Categorical, StochasticLogits, UncertaintyAware
from skuq.posteriors import DeepEnsemble, PointEstimate

QUICK = {"module__hidden_layer_sizes": (16,), "random_state": 0, "posterior": PointEstimate()}


def imbalanced(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(3 - 2 * X[:, 0]))).astype(int)
    return X, y


@pytest.mark.parametrize(
    "likelihood", [Categorical(), Bernoulli(), StochasticLogits(n_samples=10)], ids=str
)
@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 8.0}], ids=str)
def test_probabilities_are_divided_by_the_weights(likelihood, class_weight):
    X, y = imbalanced(300)
    options = {**QUICK, "likelihood": likelihood, "class_weight": class_weight, "max_epochs": 3}
    tilted = TorchClassifier(**options).fit(X, y).predict_proba(X)
    corrected = TorchClassifier(prior_correction=True, **options).fit(X, y)
    weight = 300 / (2 * np.bincount(y)) if class_weight == "balanced" else np.array([0.5, 8.0])
    expected = tilted / weight
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(corrected.predict_proba(X), expected, atol=1e-6)
    assert np.array_equal(corrected.predict(X), expected.argmax(1))
    total = -(expected * np.log(expected)).sum(1)
    np.testing.assert_allclose(corrected.predict_uncertainty(X), total, atol=1e-5)
    rows = torch.as_tensor(X[:20])
    traced = skuq.uncertainty_function(corrected)(rows)
    np.testing.assert_allclose(traced.detach().numpy(), total[:20], atol=1e-5)


def test_the_mean_probability_is_the_true_rate():
    X, y = imbalanced()
    X_test, y_test = imbalanced(seed=1)
    options = {**QUICK, "class_weight": "balanced", "max_epochs": 40, "lr": 0.01}
    tilted = TorchClassifier(**options).fit(X, y).predict_proba(X_test)[:, 1]
    corrected = TorchClassifier(prior_correction=True, **options).fit(X, y)
    proba = corrected.predict_proba(X_test)[:, 1]
    exact = LogisticRegression().fit(X, y).predict_proba(X_test)[:, 1]
    assert tilted.mean() > 1.5 * y_test.mean()
    assert proba.mean() == pytest.approx(y_test.mean(), abs=0.02)
    assert np.abs(proba - exact).mean() < 0.03 < np.abs(tilted - exact).mean()
    tempered = TemperatureScaler(TorchClassifier(**options), cv=3).fit(X, y)
    assert tempered.predict_proba(X_test)[:, 1].mean() > 1.5 * y_test.mean()  # no way out


def test_without_weights_nothing_changes():
    X, y = imbalanced(200)
    plain = TorchClassifier(max_epochs=2, **QUICK).fit(X, y)
    other = TorchClassifier(max_epochs=2, prior_correction=True, **QUICK).fit(X, y)
    assert np.array_equal(plain.predict_proba(X), other.predict_proba(X))


def test_of_every_draw(tmp_path):
    X, y = imbalanced(200)
    options = {**QUICK, "posterior": DeepEnsemble(3), "class_weight": {1: 5.0}, "max_epochs": 3}
    model = TorchClassifier(prior_correction=True, **options).fit(X, y)
    draws = model.predict_draws(X)
    np.testing.assert_allclose(draws.mean(0), model.predict_proba(X), atol=1e-6)
    skuq.save(model, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq")
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_what_has_no_correction_is_refused():
    X, y = imbalanced(100)
    options = {**QUICK, "max_epochs": 1, "prior_correction": True, "class_weight": {1: 5.0}}
    with pytest.raises(TypeError, match="no prior correction: use Categorical"):
        TorchClassifier(likelihood=UncertaintyAware(), **options).fit(X, y)
    labels = np.where(X[:, 1] > 1, 2, y)
    with pytest.raises(ValueError, match="class of weight 0"):
        TorchClassifier(**{**options, "class_weight": {2: 0.0}}).fit(X, labels)
    with pytest.raises(ValueError, match="give class_weight as a dictionary"):
        TorchClassifier(**{**options, "class_weight": "balanced"}).partial_fit(X, y)
    by_parts = TorchClassifier(**options).partial_fit(X, y).partial_fit(X, y)
    assert by_parts.likelihood_._log_weights == pytest.approx(np.log([1, 5]))


def test_training_goes_on_with_the_parameters_of_now():
    X, y = imbalanced(200)
    options = {**QUICK, "class_weight": {1: 20.0}}
    model = TorchClassifier(prior_correction=True, **options).partial_fit(X, y)
    plain = TorchClassifier(**options).partial_fit(X, y)
    for each in (model, plain):
        each.set_params(prior_correction=False).partial_fit(X, y)
    assert np.array_equal(model.predict_proba(X), plain.predict_proba(X))
    for each in (model, plain):
        each.set_params(prior_correction=True, class_weight=None).partial_fit(X, y)
    assert np.array_equal(model.predict_proba(X), plain.predict_proba(X))


def test_the_report_tells_of_tilted_probabilities():
    pytest.importorskip("matplotlib")
    X, y = imbalanced(200)
    options = {**QUICK, "max_epochs": 2, "class_weight": "balanced"}
    tilted = TorchClassifier(**options).fit(X, y)
    assert "prior_correction=True" in skuq.report(tilted, X, y).html
    corrected = TorchClassifier(prior_correction=True, **options).fit(X, y)
    assert "tilted" not in skuq.report(corrected, X, y).html
