"""The pinball loss, and the distribution that quantiles make."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from skuq import TorchRegressor
from skuq.likelihoods import Quantile
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain

Q = (0.1, 0.3, 0.8)


def fitted(q=Q, n_targets=1, **options):
    return Quantile(q, **options).fit(np.repeat([[-1.0], [1.0]], n_targets, axis=1))


def test_loss_is_scikit_learns():
    random = np.random.default_rng(0)
    theta, y = random.normal(size=(50, 6)), random.normal(size=(50, 2))
    loss = fitted(n_targets=2).loss(torch.tensor(theta), torch.tensor(y)).mean()
    expected = sum(
        mean_pinball_loss(y[:, d], theta[:, 3 * d + k], alpha=level)
        for d in range(2)
        for k, level in enumerate(Q)
    )
    assert float(loss) == pytest.approx(expected)


def test_gradient():
    """∂/∂θ_k = 1{y < θ_k} − q_k."""
    output = torch.tensor([[-1.0, 0.4, 2.0]], dtype=torch.float64, requires_grad=True)
    fitted().loss(output, torch.tensor([[1.0]], dtype=torch.float64)).sum().backward()
    np.testing.assert_allclose(output.grad[0].numpy(), [-0.1, -0.3, 0.2])


def test_minimiser_is_the_quantile():
    y = np.random.default_rng(0).exponential(size=500)
    model = TorchRegressor(
        Plain, likelihood=Quantile(Q), posterior=PointEstimate(), max_epochs=600, lr=0.003,
        batch_size=500, random_state=0,
    ).fit(np.zeros((500, 1)), y)  # fmt: skip
    found = model.predict_quantiles(np.zeros((1, 1)), Q)[0]
    np.testing.assert_allclose(found, np.quantile(y, Q), atol=0.05)


def test_quantiles_are_those_of_the_network():
    """At the levels, of one draw, in the units of y."""
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))
    y = 100 + 20 * random.normal(size=(200, 2)) * (1 + X[:, :1] ** 2)
    model = TorchRegressor(
        likelihood=Quantile(Q), posterior=PointEstimate(), max_epochs=20, random_state=0
    ).fit(X, y)
    raw = model.draws(torch.tensor(X))[0].detach().double().unflatten(-1, (2, 3)).numpy()
    likelihood = model.likelihood_
    expected = likelihood.location_[:, None] + likelihood.scale_[:, None] * raw
    assert (np.diff(raw, axis=-1) > 0.01).all()  # nothing crosses here
    np.testing.assert_allclose(model.predict_quantiles(X, Q), expected, rtol=1e-6)


def test_crossing_is_sorted():
    likelihood = fitted(min_scale=1e-3)
    crossed = torch.tensor([[1.0, -2.0, 0.5], [0.7, 0.7, 0.7]], dtype=torch.float64)
    predictive = likelihood.predictive(crossed)
    at_levels = torch.stack(
        [predictive.icdf(torch.full((2, 1), q, dtype=torch.float64)) for q in Q], -1
    )[:, 0]
    np.testing.assert_allclose(at_levels[0].numpy(), [-2, 0.5, 1.0])
    gaps = at_levels[1].diff().numpy()  # quantiles that meet are held apart
    np.testing.assert_allclose(gaps, 1e-3 * np.diff(Q), rtol=1e-6)
    assert float(at_levels[1, 1]) == pytest.approx(0.7)
    assert (predictive.variance > 0).all()


def test_sorting_makes_no_loss_larger():
    """Chernozhukov et al. 2010."""
    random = torch.Generator().manual_seed(0)
    output = torch.randn(500, 3, dtype=torch.float64, generator=random)
    y = torch.randn(500, 1, dtype=torch.float64, generator=random)
    likelihood = fitted()
    better = likelihood.loss(output.sort(-1).values, y) <= likelihood.loss(output, y) + 1e-12
    assert better.all()


def test_tails_of_a_laplace_distribution():
    """Exponential tails through the median are exact."""
    q = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
    theirs = stats.laplace(0.3, 1.7)
    output = torch.tensor(theirs.ppf(q))[None]
    predictive = fitted(q).predictive(output)
    for level in (1e-5, 0.01, 0.05, 0.95, 0.999):
        found = float(predictive.icdf(torch.tensor([[level]], dtype=torch.float64)))
        assert found == pytest.approx(theirs.ppf(level), rel=1e-9)
    assert float(predictive.mean) == pytest.approx(0.3)
    assert float(predictive.variance) == pytest.approx(theirs.var(), rel=0.03)


def test_intervals_of_an_ensemble_are_calibrated():
    random = np.random.default_rng(1)
    X = random.uniform(-1, 1, size=(2000, 1))
    y = np.sin(3 * X[:, 0]) + (0.1 + 0.4 * (X[:, 0] > 0)) * random.gumbel(size=2000)
    model = TorchRegressor(
        Plain, likelihood=Quantile(), posterior=DeepEnsemble(3), max_epochs=150, lr=0.01,
        module__width=32, random_state=0,
    ).fit(X[:1000], y[:1000])  # fmt: skip
    low, high = model.predict_interval(X[1000:], 0.9).T
    inside = (y[1000:] >= low) & (y[1000:] <= high)
    assert inside.mean() == pytest.approx(0.9, abs=0.03)
    wide = (high - low)[X[1000:, 0] > 0.1].mean() / (high - low)[X[1000:, 0] < -0.1].mean()
    assert wide == pytest.approx(5, rel=0.3)


@pytest.mark.parametrize("q", [(0.5,), 0.5, (0.2, 0.1), (0.0, 0.5), (0.5, 0.5), [[0.1, 0.2]]])
def test_bad_levels(q):
    with pytest.raises(ValueError, match=r"'q' parameter|q must be at least two"):
        TorchRegressor(likelihood=Quantile(q), max_epochs=1).fit(np.eye(3), np.arange(3.0))
