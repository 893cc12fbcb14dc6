"""Heavy-tailed noise."""

import numpy as np
import pytest
import torch
from scipy import stats

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian, StudentT
from skuq.posteriors import PointEstimate
from tests.networks import Plain


def fitted(n_targets=1, **options):
    """In standardised units."""
    y = np.repeat([[-1.0], [1.0]], n_targets, axis=1)
    return StudentT(min_scale=1e-9, **options).fit(y)


@pytest.mark.parametrize("df", [2.5, 4.0, 30.0])
def test_likelihood_is_scipys(df):
    mu, s, y = 0.7, -0.4, np.array([-3.0, 0.5, 0.7, 40.0])
    output = torch.tensor([mu, s], dtype=torch.float64).expand(4, 2)
    target = torch.tensor(y)[:, None]
    theirs = stats.t(df, mu, np.exp(s))
    likelihood = fitted(df=df)
    nll = likelihood.negative_log_likelihood(output, target)
    np.testing.assert_allclose(nll.numpy(), -theirs.logpdf(y), rtol=1e-8)
    torch.testing.assert_close(likelihood.loss(output, target), nll)
    predictive = likelihood.predictive(output)
    np.testing.assert_allclose(predictive.variance.numpy(), theirs.var(), rtol=1e-8)
    np.testing.assert_allclose(predictive.cdf(target)[:, 0].numpy(), theirs.cdf(y), rtol=1e-7)
    q = torch.tensor([1e-6, 0.2, 0.5, 0.999], dtype=torch.float64)
    found = predictive.icdf(q[:, None])[:, 0]
    np.testing.assert_allclose(found.numpy(), theirs.ppf(q.numpy()), rtol=1e-7)


def test_gradients():
    """∂/∂μ = −(ν + 1) r / (ν σ² + r²), ∂/∂log σ = 1 − (ν + 1) r² / (ν σ² + r²)."""
    nu, mu, s, y = 3.0, 0.2, 0.5, 2.0
    output = torch.tensor([[mu, s]], dtype=torch.float64, requires_grad=True)
    fitted(df=nu).loss(output, torch.tensor([[y]], dtype=torch.float64)).sum().backward()
    r, scale = y - mu, nu * np.exp(2 * s) + (y - mu) ** 2
    expected = [-(nu + 1) * r / scale, 1 - (nu + 1) * r**2 / scale]
    np.testing.assert_allclose(output.grad[0].numpy(), expected, rtol=1e-7)


def test_free_degrees_of_freedom():
    likelihood = fitted(2, df="free")
    assert likelihood.n_outputs_ == 6
    output = torch.tensor([[0.0, 0.0, 0.0, 0.0, -50.0, 1e4]], dtype=torch.float64)
    df = likelihood.predictive(output).df[0]
    np.testing.assert_allclose(df.numpy(), [2.1, 1000])
    assert torch.isfinite(likelihood.predictive(output).variance).all()


def outliers():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, size=(400, 1))
    truth = 2 * X[:, 0]
    y = truth + 0.1 * random.normal(size=400)
    y[::10] += 15
    return X, y, truth


def test_outliers_pull_less():
    X, y, truth = outliers()
    error = {}
    for likelihood in (Gaussian(beta=0.0), StudentT(), StudentT("free")):
        model = TorchRegressor(
            Plain, likelihood=likelihood, posterior=PointEstimate(), max_epochs=100, lr=0.01,
            random_state=0,
        ).fit(X, y)  # fmt: skip
        error[str(likelihood)] = np.abs(model.predict(X) - truth).mean()
        covered = model.predict_interval(X, 0.8)
        inside = (y >= covered[:, 0]) & (y <= covered[:, 1])
        assert inside.mean() > 0.7
    gaussian, fixed, free = error.values()
    assert fixed < gaussian / 5 and free < gaussian / 5


def test_parameters():
    X, y, _ = outliers()
    for df in (2.0, 1, "learnt"):
        with pytest.raises(ValueError, match="'df' parameter"):
            TorchRegressor(likelihood=StudentT(df), max_epochs=1).fit(X, y)
