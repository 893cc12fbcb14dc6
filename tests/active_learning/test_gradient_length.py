"""Expected gradient lengths, against autograd, quadrature and formulas written by hand."""

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.active_learning import expected_gradient_length, expected_model_change
from skuq.active_learning._closed_forms import bayesian_length, model_change, softmax_length
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli, Gaussian
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.active_learning.conftest import quick


def by_autograd(network, x, power, last):
    """Σ_k p_k ‖∇ log p_k‖^power of one row, class by class."""
    parameters = list(network.parameters())
    parameters = parameters[-2:] if last else parameters
    log_p = network(torch.from_numpy(x[None])).log_softmax(1)[0]
    total = 0.0
    for k in range(len(log_p)):
        grads = torch.autograd.grad(log_p[k], parameters, retain_graph=True)
        squared = sum((g**2).sum() for g in grads)
        total += (log_p[k].exp() * squared ** (power / 2)).item()
    return total


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scope", ["last", "all"])
def test_of_a_classifier_equals_autograd(one_network, blobs, scope, power):
    X = blobs[0][:12]
    found = expected_gradient_length(one_network, X, scope=scope, power=power)
    network = one_network.module_.eval()
    expected = [by_autograd(network, x.astype(float), power, scope == "last") for x in X]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_power_two_is_the_trace_of_the_fisher_information(one_network, blobs):
    X = blobs[0][:20]
    p = one_network.predict_proba(X)
    f = skuq.predict_features(one_network, X)
    fisher = np.array([np.diag(row) - np.outer(row, row) for row in p])  # in the logits
    trace = np.trace(fisher, axis1=1, axis2=2) * ((f**2).sum(axis=1) + 1)
    found = expected_gradient_length(one_network, X, power=2)
    np.testing.assert_allclose(found, trace, rtol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_binary_logistic(power):
    """2 p (1 − p) ‖(x, 1)‖, by one logit of scikit-learn and of skuq."""
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 3))
    y = (X[:, 0] + random.normal(size=60) > 0).astype(int)
    length = np.sqrt((X**2).sum(axis=1) + 1)
    for fitted in (
        LogisticRegression().fit(X, y),
        TorchClassifier(
            lambda n_features, n_outputs: nn.Linear(n_features, n_outputs),
            likelihood=Bernoulli(), posterior=PointEstimate(), max_epochs=2, random_state=0,
            precision="float64",
        ).fit(X, y),
    ):  # fmt: skip
        p = fitted.predict_proba(X)[:, 1]
        expected = 2 * p * (1 - p) * length if power == 1 else p * (1 - p) * length**2
        found = expected_gradient_length(fitted, X, power=power)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_certain_rows_have_no_gradient_and_uniform_ones_the_longest():
    certain, uniform = np.eye(4), np.full((1, 4), 0.25)
    random = np.random.default_rng(0).dirichlet(np.ones(4), size=200)
    for power in (1, 2):
        np.testing.assert_allclose(softmax_length(certain, power), 0, atol=1e-12)
        assert softmax_length(random, power).max() < softmax_length(uniform, power)[0]
        shuffled = softmax_length(random[:, [2, 0, 3, 1]], power)
        np.testing.assert_allclose(shuffled, softmax_length(random, power), rtol=1e-12)


def test_lengths_of_draws_are_averaged(ensemble, blobs):
    X = blobs[0][:20]
    lengths = np.sqrt((skuq.predict_features(ensemble, X) ** 2).sum(axis=2) + 1).mean(axis=0)
    expected = softmax_length(ensemble.predict_proba(X), 1) * lengths
    np.testing.assert_allclose(expected_gradient_length(ensemble, X), expected, rtol=1e-9)


# -- regression -----------------------------------------------------------------------------------


def test_bayesian_length_equals_quadrature_of_gradients(regressors, regression):
    """20-point Gauss-Hermite over y, and autograd of each member, for f that is not the mean."""
    fitted, X = regressors[0], regression[0][:15]
    scale = fitted.likelihood_
    nodes, weights = hermegauss(20)
    weights = weights / weights.sum()
    networks = [network.eval() for network in fitted._engine.draws.networks(3)]
    rows = torch.from_numpy(X)
    moments = [scale.predictive(network(rows)[None]) for network in networks]
    means = np.stack([m.mean.detach().numpy()[0, :, 0] for m in moments])
    variances = np.stack([m.variance.detach().numpy()[0, :, 0] for m in moments])
    expected, squared = np.zeros(len(X)), np.zeros(len(X))
    learns = networks[0]  # the network whose gradient it is
    for i in range(len(X)):
        f = scale.predictive(learns(rows[i : i + 1])[None]).mean.flatten()[0]
        grads = torch.autograd.grad(f, list(learns.parameters()), retain_graph=True)
        squared[i] = sum(float((g**2).sum()) for g in grads)
        for m, v in zip(means[:, i], variances[:, i]):
            for node, weight in zip(nodes, weights):
                loss = 0.5 * (m + np.sqrt(v) * node - f) ** 2
                grads = torch.autograd.grad(loss, list(learns.parameters()), retain_graph=True)
                expected[i] += weight / 3 * sum(float((g**2).sum()) for g in grads)
    found = bayesian_length(squared, means, variances, means[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["ensemble", "one network"])
def test_two_sides_of_one_coin(regressors, regression, which):
    """Squared gradient times the total variance of Kendall and Gal."""
    fitted, X = regressors[which], regression[0]
    features = skuq.predict_features(fitted, X)
    features = features if features.ndim == 3 else features[None]
    squared = ((features**2).sum(axis=2) + 1).mean(axis=0)
    expected = squared * fitted.predict_uncertainty(X, kind="total")
    np.testing.assert_allclose(expected_gradient_length(fitted, X), expected, rtol=1e-9)


def test_all_layers_of_a_regressor_equal_autograd(regressors, regression):
    fitted, X = regressors[1], regression[0][:6]
    network, total = fitted.module_.eval(), fitted.predict_uncertainty(X)
    expected = []
    for row, variance in zip(X, total):
        f = fitted.likelihood_.predictive(network(torch.from_numpy(row[None]))[None]).mean.sum()
        grads = torch.autograd.grad(f, list(network.parameters()))
        expected.append(variance * sum(float((g**2).sum()) for g in grads))
    found = expected_gradient_length(fitted, X, scope="all")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_several_targets_are_added():
    random = np.random.default_rng(0)
    means, variances = random.normal(size=(3, 5, 2)), random.uniform(0.1, 1, (3, 5, 2))
    squared = random.uniform(1, 2, 5)
    each = [bayesian_length(squared, means[..., d], variances[..., d]) for d in range(2)]
    np.testing.assert_allclose(bayesian_length(squared, means, variances), sum(each), rtol=1e-12)
    only = bayesian_length(squared, means, 0.0)
    np.testing.assert_allclose(only, squared * means.var(axis=0).sum(axis=1), rtol=1e-12)


def test_model_change_is_the_mean_distance_times_the_length(regressors, regression):
    fitted, X = regressors[0], regression[0]
    draws = fitted.predict_draws(X).reshape(3, len(X))
    lengths = np.sqrt((skuq.predict_features(fitted, X) ** 2).sum(axis=2) + 1).mean(axis=0)
    expected = lengths * np.abs(draws - draws.mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(expected_model_change(fitted, X), expected, rtol=1e-9)
    two = np.stack([draws, 2 * draws], axis=2)
    np.testing.assert_allclose(model_change(lengths, two), np.sqrt(5) * expected, rtol=1e-9)


# -- composition and refusals ---------------------------------------------------------------------


def test_through_a_pipeline_and_a_calibrator(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(**quick(PointEstimate(), 2)))
    pipeline.fit(X, y)
    expected = expected_gradient_length(pipeline[1], pipeline[0].transform(X))
    np.testing.assert_allclose(expected_gradient_length(pipeline, X), expected)
    scaled = TemperatureScaler(TorchClassifier(**quick(PointEstimate(), 2)), cv=2).fit(X, y)
    assert expected_gradient_length(scaled, X).shape == (len(X),)


class Recurrent(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.head = nn.Linear(3, n_outputs)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(len(x), 5, 2))[0][:, -1])


def test_layers_that_vmap_does_not_know(blobs):
    X, y = blobs
    options = {"max_epochs": 1, "random_state": 0, "precision": "float64"}
    fitted = TorchClassifier(Recurrent, posterior=PointEstimate(), **options).fit(X, y)
    found = expected_gradient_length(fitted, X[:2], scope="all")
    network = fitted.module_.eval()
    expected = [by_autograd(network, x.astype(float), 1, False) for x in X[:2]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_refusals(one_network, regressors, blobs, regression):
    X = blobs[0][:5]
    with pytest.raises(ValueError, match="scope must be"):
        expected_gradient_length(one_network, X, scope="first")
    with pytest.raises(ValueError, match="power must be"):
        expected_gradient_length(one_network, X, power=3)
    with pytest.raises(ValueError, match="no closed form"):
        expected_gradient_length(regressors[0], regression[0], power=1)
    with pytest.raises(ValueError, match="one draw"):
        expected_model_change(regressors[1], regression[0])
    with pytest.raises(TypeError, match="needs a regressor"):
        expected_model_change(one_network, X)
    with pytest.raises(TypeError, match="network or a linear classifier"):
        expected_gradient_length(Ridge().fit(*regression), regression[0])
    several = TorchClassifier(likelihood=Bernoulli(), max_epochs=1, random_state=0)
    several.fit(blobs[0], np.eye(3)[blobs[1]])
    for scope in ("last", "all"):
        with pytest.raises(ValueError, match="one label for each row"):
            expected_gradient_length(several, X, scope=scope)


class Conv(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.conv = nn.Conv1d(1, n_outputs, 3)

    def forward(self, x):
        return self.conv(x[:, None]).mean(2)


def test_a_network_without_a_last_linear_layer(blobs):
    X, y = blobs
    options = {"posterior": PointEstimate(), "max_epochs": 1, "random_state": 0}
    fitted = TorchClassifier(Conv, **options).fit(X, y)
    with pytest.raises(ValueError, match="scope='all' works for any network"):
        expected_gradient_length(fitted, X)
    assert expected_gradient_length(fitted, X[:3], scope="all").shape == (3,)


def test_a_network_of_many_targets(regression):
    X, y = regression
    fitted = TorchRegressor(**quick(DeepEnsemble(2), 2), likelihood=Gaussian()).fit(
        X, np.column_stack([y, 2 * y])
    )
    for scope in ("last", "all"):
        assert expected_gradient_length(fitted, X[:4], scope=scope).shape == (4,)
