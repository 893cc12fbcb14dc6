"""The Laplace approximation of the last layer, against closed forms and dense matrices."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Bernoulli, Categorical, Gaussian
from skuq.posteriors import LastLayerLaplace, PointEstimate
from tests.networks import ConvNet
from tests.posteriors.laplace_networks import (
    CLASSIFICATIONS,
    DOUBLE,
    REGRESSIONS,
    STRUCTURES,
    Known,
    Linear,
    Net,
    covariance,
    dense,
    estimator,
    regression,
    stacked,
    trunk,
    two_tasks,
)

# -- oracles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_a_conjugate_regression_is_exact(structure, weighted, unit_noise):
    X, y, weight = regression()
    weight = weight if weighted else None
    variance, precision = 0.3, 2.5
    likelihood = Known(variance).fit(y[:, None], weight)
    target = likelihood.encode(y[:, None])[:, 0]
    phi, w = np.column_stack([X, np.ones(len(X))]), np.ones(len(X)) if weight is None else weight
    expected = np.linalg.inv((phi.T * w) @ phi / variance + precision * np.eye(4))
    ridge = expected @ (phi.T * w) @ target / variance
    fitted = TorchRegressor(
        Linear,
        module__weights=torch.tensor(ridge[None]),
        likelihood=Known(variance),
        posterior=LastLayerLaplace(structure, precision, n_draws=8),
        max_epochs=0,
        **DOUBLE,
    ).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(covariance(fitted), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(stacked(fitted).mean(0)[0], ridge, rtol=1e-10)
    mean = fitted.predict(X)
    scale = likelihood.scale_[0]
    np.testing.assert_allclose(mean, likelihood.location_[0] + scale * phi @ ridge, rtol=1e-10)
    spread = fitted.predict_uncertainty(X, kind="epistemic") / scale**2
    # The eight draws are ± the columns of the root: their variance is 2 / 8 of the covariance.
    np.testing.assert_allclose(4 * spread, ((phi @ expected) * phi).sum(1), rtol=1e-9)


@pytest.mark.parametrize(("weighted", "bias"), [(False, False), (True, True)])
@pytest.mark.parametrize("likelihood", [*REGRESSIONS, *CLASSIFICATIONS], ids=str)
def test_every_structure_is_that_of_a_dense_matrix(likelihood, weighted, bias, unit_noise):
    X, y = two_tasks(likelihood)
    weight = np.linspace(0.5, 3, len(X)) if weighted else np.ones(len(X))
    precision = 1.7
    make = estimator(likelihood, module__bias=bias, batch_size=7)
    n = clone(likelihood).fit(y, n_classes=3).n_outputs_ * (3 + bias)
    found = {}
    for structure in STRUCTURES:
        posterior = LastLayerLaplace(structure, precision, n_draws=2 * n, temperature=0.5)
        fitted = clone(make).set_params(posterior=posterior)
        fitted.fit(X, y, sample_weight=weight if weighted else None)
        found[structure] = covariance(fitted) / 0.5
    rows = dense(fitted, X, weight)
    total, eye = rows.sum(0), torch.eye(n, dtype=torch.float64)
    with torch.no_grad():
        phi = trunk(fitted)(torch.as_tensor(X))
        F = fitted.likelihood_.fisher(fitted.module_(torch.as_tensor(X)))
    phi = torch.cat([phi, phi.new_ones(len(X), 1)], 1) if bias else phi
    w = torch.as_tensor(weight)
    product = torch.kron((w[:, None, None] * F).sum(0), (w * phi.T) @ phi / w.sum())
    expected = {
        "full": torch.linalg.inv(total + precision * eye),
        "diagonal": torch.diag(1 / (total.diagonal() + precision)),
        "kronecker": torch.linalg.inv(product + precision * eye),
    }
    for structure in STRUCTURES:
        error = (found[structure] - expected[structure]).norm() / expected[structure].norm()
        assert error < 1e-6, structure


def test_missing_labels_bring_no_information(unit_noise):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(50, 4)), (random.random((50, 2)) < 0.5).astype(float)
    y[:30, 1] = np.nan
    posterior = LastLayerLaplace("full", 1.0, n_draws=16)
    options = {"likelihood": Bernoulli("ignore"), "posterior": posterior, "max_epochs": 0}
    fitted = TorchClassifier(Net, **options, **DOUBLE).fit(X, y)
    with torch.no_grad():
        phi = trunk(fitted)(torch.as_tensor(X))
        p = fitted.module_(torch.as_tensor(X)).sigmoid()
    phi = torch.cat([phi, phi.new_ones(len(X), 1)], 1)
    found, variance = covariance(fitted), p * (1 - p)
    for label, rows in ((0, slice(None)), (1, slice(30, None))):
        H = (variance[rows, label] * phi[rows].T) @ phi[rows] + torch.eye(4)
        block = found[4 * label : 4 * label + 4, 4 * label : 4 * label + 4]
        torch.testing.assert_close(block, torch.linalg.inv(H))


def test_the_covariance_of_many_draws(blobs):
    X, y = blobs
    posterior = LastLayerLaplace("full", n_draws=20_000)
    options = {"max_epochs": 5, "lr": 0.05, **DOUBLE}
    fitted = TorchClassifier(Net, posterior=posterior, **options).fit(X, y)
    draws = stacked(fitted).flatten(1)
    found = draws.T.cov()
    weight = np.ones(len(X))
    H = dense(fitted, X.astype(float), weight).sum(0)
    expected = torch.linalg.inv(H + 9 * torch.eye(len(H)))
    assert fitted.posterior_.prior_precision_ == 9.0
    assert (found - expected).norm() / expected.norm() < 0.04


# -- draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_draws_come_in_pairs_and_do_not_depend_on_their_number(structure, blobs):
    X, y = blobs
    options = {"max_epochs": 3, "precision": "float32", "random_state": 0}

    def fit(n_draws):
        posterior = LastLayerLaplace(structure, n_draws=n_draws)
        return TorchClassifier(Net, posterior=posterior, **options).fit(X, y)

    many = fit(40)
    mode = torch.cat([many.module_[2].weight, many.module_[2].bias[:, None]], 1).detach()
    draws = stacked(many)
    torch.testing.assert_close(draws.mean(0), mode, atol=1e-6, rtol=0)
    torch.testing.assert_close((draws[::2] + draws[1::2]) / 2, mode.expand(20, -1, -1))
    assert (draws[::2] - mode).abs().amin() > 0
    for n_draws in (1, 7, 18):
        few = fit(n_draws)
        assert torch.equal(stacked(few), draws[:n_draws])
        assert few.predict_draws(X).shape[0] == n_draws


def test_of_the_network_only_the_last_layer_differs(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    fitted = TorchClassifier(
        ConvNet, posterior=LastLayerLaplace(n_draws=6), max_epochs=1, random_state=0
    ).fit(images, y)
    assert set(fitted._engine.draws._tensors) == {"head.3.weight", "head.3.bias"}
    assert fitted._engine.vectorized
    assert fitted.posterior_.layer_ == "head.3"
    assert fitted.posterior_.prior_precision_ == 3 * 16


def test_a_large_prior_precision_is_the_point_estimate(diabetes):
    X, y = diabetes
    options = {"max_epochs": 3, **DOUBLE}
    laplace = TorchRegressor(posterior=LastLayerLaplace(prior_precision=1e30), **options)
    point = TorchRegressor(posterior=PointEstimate(), **options).fit(X, y)
    laplace.fit(X, y)
    np.testing.assert_allclose(laplace.predict(X), point.predict(X), rtol=1e-12)
    np.testing.assert_allclose(laplace.predict_uncertainty(X), point.predict_uncertainty(X))
    assert laplace.predict_uncertainty(X, kind="epistemic").max() < 1e-20 * np.var(y)


def test_temperature_scales_the_covariance(diabetes):
    X, y = diabetes
    options = {"max_epochs": 0, **DOUBLE}

    def epistemic(temperature):
        posterior = LastLayerLaplace(temperature=temperature, n_draws=10)
        fitted = TorchRegressor(posterior=posterior, **options).fit(X, y)
        return fitted.predict_uncertainty(X, kind="epistemic")

    np.testing.assert_allclose(epistemic(0.25), epistemic(1.0) / 4, rtol=1e-9)


def test_the_mixture_is_better_than_its_draws_on_average(blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=LastLayerLaplace(), max_epochs=5, random_state=0).fit(X, y)
    of_each = -np.log(fitted.predict_draws(X)[:, np.arange(len(y)), y]).mean()
    of_mixture = -np.log(fitted.predict_proba(X)[np.arange(len(y)), y]).mean()
    assert of_mixture < of_each
    assert (fitted.predict_uncertainty(X, kind="epistemic") > 0).all()


# -- the amount of data ----------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [Categorical(), Gaussian(), Gaussian(False)], ids=str)
@pytest.mark.parametrize("prior_precision", ["init", "evidence"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_weights_are_an_amount_of_data(structure, prior_precision, likelihood):
    X, y = two_tasks(likelihood)
    posterior = LastLayerLaplace(structure, prior_precision, n_draws=10)
    make = estimator(likelihood, posterior=posterior, max_epochs=0)
    counts = 1 + np.arange(len(X)) % 3
    once = clone(make).fit(X, y)
    weighted = clone(make).fit(X, y, sample_weight=counts)
    repeated = clone(make).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0))
    rtol = 1e-6 if prior_precision == "evidence" else 1e-9
    torch.testing.assert_close(stacked(weighted), stacked(repeated), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        weighted.predict_uncertainty(X), repeated.predict_uncertainty(X), rtol=10 * rtol
    )
    assert (stacked(weighted) - stacked(once)).abs().max() > 1e-3


def test_twice_the_weight_is_less_uncertainty():
    X, y, _ = regression()
    posterior = LastLayerLaplace("full", 1e-6)
    make = TorchRegressor(Linear, posterior=posterior, likelihood=Known(), max_epochs=0, **DOUBLE)
    once, twice = (
        clone(make)
        .fit(X, y, sample_weight=np.full(len(X), weight))
        .predict_uncertainty(X, kind="epistemic")
        for weight in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, once / 2, rtol=1e-6)
