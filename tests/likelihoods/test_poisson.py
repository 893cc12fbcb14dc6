"""Counts."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from torch import nn

from skuq import TorchRegressor
from skuq.calibration import QuantileRecalibrator, VarianceScaler
from skuq.likelihoods import Poisson
from skuq.metrics import crps_scorer, nll_scorer
from skuq.pipeline import make_pipeline
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain


def fitted(mean=1.0, **options):
    return Poisson(min_rate=1e-12, **options).fit(np.array([[0.0], [2 * mean]]))


def counts(n_rows=400, n_targets=1):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3))
    rate = np.exp(1.0 + 0.8 * X[:, :1] + np.arange(n_targets))
    y = random.poisson(rate)
    return X, y[:, 0] if n_targets == 1 else y, rate


def test_loss_is_torchs():
    random = torch.Generator().manual_seed(0)
    z = torch.randn(30, 1, dtype=torch.float64, generator=random)
    y = torch.randint(9, (30, 1), generator=random).double()
    expected = nn.PoissonNLLLoss(reduction="none")(z, y)[:, 0]
    torch.testing.assert_close(fitted().loss(z, y), expected)
    exact = -torch.distributions.Poisson(z.exp()).log_prob(y)[:, 0]
    torch.testing.assert_close(fitted().negative_log_likelihood(z, y), exact)


@pytest.mark.parametrize("mean", [20.0, 0.05])
def test_units_of_the_mean(mean):
    """λ = c exp(z); the true likelihood is c times the loss, but for a constant of y."""
    likelihood, y = fitted(mean), np.array([[13.0]])
    encoded = torch.tensor(likelihood.encode(y))
    z = torch.tensor([[0.2], [-0.5]], dtype=torch.float64)
    rate = mean * z.exp()
    torch.testing.assert_close(likelihood.predictive(z).mean, rate)
    difference = likelihood.negative_log_likelihood(z, encoded).diff()
    torch.testing.assert_close(difference, mean * likelihood.loss(z, encoded).diff())
    exact = torch.tensor(-stats.poisson(rate[:, 0].numpy()).logpmf(13))
    torch.testing.assert_close(likelihood.negative_log_likelihood(z, encoded), exact)


def test_gradient():
    """∂/∂z = (λ − y)/c."""
    z = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    likelihood = fitted(mean=4.0)
    likelihood.loss(z, torch.tensor(likelihood.encode(np.array([[7.0]])))).sum().backward()
    assert float(z.grad) == pytest.approx((4 * np.exp(0.3) - 7) / 4)


def test_minimiser_is_the_mean():
    y = np.tile([0.0, 1.0, 1.0, 6.0], 10)
    model = TorchRegressor(
        Plain, likelihood=Poisson(), posterior=PointEstimate(), max_epochs=200, lr=0.02,
        random_state=0,
    ).fit(np.ones((40, 1)), y)  # fmt: skip
    np.testing.assert_allclose(model.predict(np.ones((1, 1))), 2, rtol=0.02)
    np.testing.assert_allclose(model.predict_uncertainty(np.ones((1, 1))), 2, rtol=0.02)


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(3)], ids=str)
def test_counts(posterior):
    X, y, rate = counts()
    model = TorchRegressor(
        Plain, likelihood=Poisson(), posterior=posterior, max_epochs=60, lr=0.01, random_state=0
    ).fit(X, y)
    assert np.median(np.abs(model.predict(X) - rate[:, 0]) / rate[:, 0]) < 0.2
    total, aleatoric, epistemic = model.predict_uncertainty(X, kind="all")
    np.testing.assert_allclose(aleatoric, model.predict(X), rtol=1e-9)  # mean = variance
    np.testing.assert_allclose(total, aleatoric + epistemic)
    q = model.predict_quantiles(X, [0.05, 0.5, 0.95])
    assert (q == q.round()).all() and (q >= 0).all() and (np.diff(q, axis=1) >= 0).all()
    inside = (y >= q[:, 0]) & (y <= q[:, 2])
    assert 0.88 < inside.mean() < 0.98  # a set of integers holds at least 90 %
    draws = model.predict_draws(X)[..., 0]
    nll = -np.log(stats.poisson(draws).pmf(y).mean(0)).mean()
    assert nll_scorer(model, X, y) == pytest.approx(-nll)
    k = np.arange(0, 300)
    below = stats.poisson(draws[..., None]).cdf(k).mean(0)
    crps = ((below - (y[:, None] <= k)) ** 2).sum(1).mean()
    assert crps_scorer(model, X, y) == pytest.approx(-crps, rel=1e-9)


def test_calibrators_and_pipelines():
    X, y, _ = counts(300)
    network = TorchRegressor(
        Plain, likelihood=Poisson(), posterior=DeepEnsemble(2), max_epochs=20, lr=0.02,
        random_state=0,
    )  # fmt: skip
    pipeline = make_pipeline(StandardScaler(), network)
    with pytest.raises(ValueError, match=r"cannot calibrate counts.*QuantileRecalibrator"):
        VarianceScaler(pipeline, cv=3).fit(X, y)
    recalibrated = QuantileRecalibrator(pipeline, cv=3).fit(X, y)
    q = recalibrated.predict_quantiles(X, [0.1, 0.9])
    assert (q == q.round()).all() and (q >= 0).all()
    with pytest.raises(ValueError, match="cannot calibrate counts"):
        VarianceScaler(FrozenEstimator(recalibrated)).fit(X + 1e-3, y)
    mean, std = recalibrated.predict(X, return_std=True)
    k = torch.arange(200.0, dtype=torch.float64)

    def distribution_function(predictive):
        return torch.stack([predictive.cdf(torch.full((1, 1), v))[0, :, 0] for v in k.tolist()], 1)

    above = 1 - recalibrated._reduce(X, distribution_function)
    exact = above.sum(1)
    np.testing.assert_allclose(mean, exact, rtol=1e-2)
    second = ((2 * k.numpy() + 1) * above).sum(1)
    np.testing.assert_allclose(std, np.sqrt(second - exact**2), rtol=3e-2)


def test_several_counts_and_rates():
    X, y, rate = counts(n_targets=2)
    options = {"likelihood": Poisson(), "max_epochs": 40, "lr": 0.01, "random_state": 0}
    model = TorchRegressor(posterior=PointEstimate(), **options).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert np.median(np.abs(model.predict(X) / rate - 1)) < 0.25
    exposure = np.random.default_rng(0).integers(1, 9, size=len(X))
    model.fit(X, y[:, 0] / exposure, sample_weight=exposure)  # rates need not be integers
    assert (model.predict(X) >= 0).all()


def test_tags():
    assert get_tags(TorchRegressor(likelihood=Poisson())).target_tags.positive_only
    assert not get_tags(TorchRegressor()).target_tags.positive_only


def test_counts_of_which_none_happened():
    likelihood = Poisson().fit(np.zeros((5, 1)))
    assert likelihood.scale_ == 1 and likelihood.decode(likelihood.encode(np.ones((1, 1)))) == 1


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="Poisson needs counts, y >= 0, got -1"):
        TorchRegressor(likelihood=Poisson(), max_epochs=1).fit(np.eye(3), np.array([1, -1, 2]))
