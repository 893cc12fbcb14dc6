"""Counts that vary more than Poisson's."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags

import skuq
from skuq import TorchRegressor
from skuq._distributions._counts import NegativeBinomialCounts, log_rising
from skuq.calibration import QuantileRecalibrator, VarianceScaler
from skuq.likelihoods import NegativeBinomial, Poisson
from skuq.metrics import crps_scorer, nll_scorer
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, PointEstimate
from tests.networks import Plain

MEANS, DISPERSIONS = (1e-3, 0.5, 3.0, 1e3), (1e-6, 1e-4, 0.01, 1 / 16, 0.3, 1.0, 10.0, 1e3)


def scipys(mean, dispersion):
    return stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))


def fitted(mean=1.0, **options):
    options = {"min_rate": 1e-12, "min_dispersion": 1e-12, **options}
    return NegativeBinomial(**options).fit(np.array([[0.0], [2 * mean]]))


def counts(n_rows=400, dispersion=0.5):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3))
    mean = np.exp(1.0 + 0.8 * X[:, 0])
    y = random.poisson(mean * random.gamma(1 / dispersion, dispersion, size=n_rows))
    return X, y, mean


@pytest.mark.parametrize("dispersion", DISPERSIONS)
@pytest.mark.parametrize("mean", MEANS)
def test_the_distribution_is_scipys(mean, dispersion):
    ours = NegativeBinomialCounts(torch.tensor(mean).double(), torch.tensor(dispersion).double())
    theirs = scipys(mean, dispersion)
    k = np.unique(np.floor([0, 1, 2, 5, mean / 2, mean, 2 * mean]))
    at = torch.as_tensor(k)
    np.testing.assert_allclose(ours.log_prob(at), theirs.logpmf(k), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(ours.cdf(at + 0.5), theirs.cdf(k), atol=1e-9)
    assert (ours.cdf(torch.tensor(-1.0)), ours.log_prob(torch.tensor(-1.0))) == (0, -np.inf)
    levels = np.array([0.01, 0.5, 0.95, 0.9999])
    np.testing.assert_array_equal(ours.icdf(torch.as_tensor(levels)), theirs.ppf(levels))
    moments = [float(ours.mean), float(ours.variance)]
    np.testing.assert_allclose(moments, theirs.stats("mv"), rtol=1e-7)


def test_single_precision_does_not_cancel():
    """log Γ(y + r) − log Γ(r) − y log r is Σ log(1 + k/r) over k < y."""
    y = torch.tensor([0.0, 1.0, 7.0, 300.0])
    for size in (0.3, 15.0, 17.0, 1e4, 1e8):
        k = np.arange(300)
        exact = [np.log1p(k[: int(n)] / size).sum() for n in y]
        np.testing.assert_allclose(log_rising(y, torch.tensor(size)), exact, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("mean", [20.0, 0.05])
def test_the_loss_is_the_likelihood_but_for_log_factorials(mean):
    likelihood, y = fitted(mean), np.array([[13.0]])
    encoded = torch.tensor(likelihood.encode(y))
    output = torch.tensor([[0.2, -0.5], [-0.5, 0.7]], dtype=torch.float64)
    means, dispersions = mean * output[:, 0].exp(), output[:, 1].exp()
    exact = [-scipys(float(m), float(a)).logpmf(13) for m, a in zip(means, dispersions)]
    np.testing.assert_allclose(likelihood.negative_log_likelihood(output, encoded), exact)
    constant = torch.lgamma(torch.tensor(14.0, dtype=torch.float64))
    np.testing.assert_allclose(likelihood.loss(output, encoded) + constant, exact)
    torch.testing.assert_close(likelihood.predictive(output).mean[:, 0], means)


def test_small_dispersions_are_poisson():
    output = torch.tensor([[0.4, -30.0]], dtype=torch.float64)
    y = torch.tensor([[0.0], [3.0], [9.0]], dtype=torch.float64)
    ours = fitted().negative_log_likelihood(output, y)
    theirs = Poisson(min_rate=1e-12).fit(np.array([[0.0], [2.0]]))
    torch.testing.assert_close(ours, theirs.negative_log_likelihood(output[:, :1], y))


def test_gradients_at_the_mean():
    """∂/∂z = (μ − y)/(1 + α μ), so the best mean of rows is theirs."""
    output = torch.tensor([[0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    likelihood = fitted(mean=4.0)
    loss = likelihood.loss(output, torch.tensor([[7.0 / 4]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    mean, dispersion = 4 * np.exp(0.3), np.exp(-0.4)
    np.testing.assert_allclose(gradient[0, 0], (mean - 7) / (1 + dispersion * mean))


def test_floors_and_units_of_networks_trained_elsewhere():
    lowest = torch.tensor([[-40.0, -40.0]], dtype=torch.float64)
    likelihood = NegativeBinomial(min_rate=0.1, min_dispersion=0.2)
    for standardise in (True, False):
        own = likelihood.set_params(standardise=standardise).fit(np.array([[0.0], [8.0]]))
        found = own.predictive(lowest)
        np.testing.assert_allclose([found.mean.item(), found.dispersion.item()], [0.4, 0.2])
    own = NegativeBinomial(1e-12, 1e-12, standardise=False).fit(np.array([[0.0], [8.0]]))
    found = own.predictive(torch.tensor([[1.0, 5.0]], dtype=torch.float64))
    np.testing.assert_allclose(found.mean.item(), np.e)
    np.testing.assert_allclose(found.dispersion.item(), np.exp(5.0))


def test_it_learns_mean_and_dispersion():
    X, y, mean = counts(600)
    options = {"posterior": PointEstimate(), "max_epochs": 60, "lr": 0.02, "random_state": 0}
    clustered = TorchRegressor(Plain, likelihood=NegativeBinomial(), **options).fit(X, y)
    assert np.corrcoef(np.log(clustered.predict(X)), np.log(mean))[0, 1] > 0.9
    variance = clustered.predict_uncertainty(X)
    dispersion = np.median((variance - clustered.predict(X)) / clustered.predict(X) ** 2)
    assert 0.3 < dispersion < 0.7  # 0.5
    even = TorchRegressor(Plain, likelihood=Poisson(), **options).fit(X, y)
    assert nll_scorer(clustered, X, y) > nll_scorer(even, X, y) + 0.05
    assert crps_scorer(clustered, X, y) < 0


@pytest.mark.parametrize("likelihood", [NegativeBinomial(), Poisson()], ids=str)
def test_recalibrated_intervals_stay_counts(likelihood):
    X, y, _ = counts(300)
    options = {"posterior": DeepEnsemble(2), "max_epochs": 20, "lr": 0.02, "random_state": 0}
    network = TorchRegressor(Plain, likelihood=likelihood, **options).fit(X[:150], y[:150])
    model = QuantileRecalibrator(FrozenEstimator(network)).fit(X[150:], y[150:])
    ends = model.predict_interval(X * 2, confidence_level=0.9)
    assert (ends == np.round(ends)).all() and (ends >= 0).all()
    low, high = model.predict_interval(X[150:], confidence_level=0.9).T
    assert ((low <= y[150:]) & (y[150:] <= high)).mean() >= 0.88
    with pytest.raises(ValueError, match="cannot calibrate counts"):
        VarianceScaler(FrozenEstimator(network)).fit(X[150:], y[150:])


def test_files_tags_and_refusals(tmp_path):
    X, y, _ = counts(60)
    model = TorchRegressor(likelihood=NegativeBinomial(), max_epochs=2, random_state=0).fit(X, y)
    assert get_tags(model).target_tags.positive_only
    skuq.save(model, tmp_path / "m.skuq")
    again = skuq.load(tmp_path / "m.skuq")
    for level in (0.1, 0.9):
        found = again.predict_quantiles(X, level)
        np.testing.assert_array_equal(found, model.predict_quantiles(X, level))
    with pytest.raises(ValueError, match="NegativeBinomial needs counts, y >= 0, got -1"):
        TorchRegressor(likelihood=NegativeBinomial()).fit(X, y - 1.0)
    with pytest.raises(ValueError, match="no Fisher information in closed form"):
        TorchRegressor(
            posterior=LastLayerLaplace(), likelihood=NegativeBinomial(), max_epochs=2
        ).fit(X, y)
