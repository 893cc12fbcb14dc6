"""Mixture density networks."""

import numpy as np
import pytest
import torch
from scipy import stats

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian, MixtureOfGaussians
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain

Y = np.array([[-1.0, -1.0], [1.0, 1.0]])


def test_one_component_is_a_gaussian():
    one = MixtureOfGaussians(1, min_variance=1e-4).fit(Y)
    gaussian = Gaussian(beta=0.0, min_variance=1e-4).fit(Y)
    random = torch.Generator().manual_seed(0)
    output = torch.randn(20, 6, dtype=torch.float64, generator=random)
    y = torch.randn(20, 2, dtype=torch.float64, generator=random)
    output[:, :2] = 3.0  # the weight of the only component
    found = one.negative_log_likelihood(output, y)
    torch.testing.assert_close(found, gaussian.negative_log_likelihood(output[:, 2:], y))


def test_loss_is_the_formula():
    """−log Σ_k softmax(a)_k N(y; c_k + m_k, σ_k²), with c from −1 to 1."""
    likelihood = MixtureOfGaussians(3, min_variance=0.01).fit(Y[:, :1])
    a, m, s = np.array([0.3, -1.0, 0.5]), np.array([0.2, 0.0, -0.7]), np.array([-1.0, 0.4, -2.0])
    y = 0.35
    weights = np.exp(a) / np.exp(a).sum()
    normal = stats.norm(np.array([-1, 0, 1]) + m, np.sqrt(np.exp(s) + 0.01))
    output = torch.tensor(np.concatenate([a, m, s]))[None]
    loss = likelihood.loss(output, torch.tensor([[y]], dtype=torch.float64))
    assert float(loss) == pytest.approx(-np.log((weights * normal.pdf(y)).sum()))
    predictive = likelihood.predictive(output)
    mean = (weights * normal.mean()).sum()
    assert float(predictive.mean) == pytest.approx(mean)
    variance = (weights * (normal.var() + normal.mean() ** 2)).sum() - mean**2
    assert float(predictive.variance) == pytest.approx(variance)
    for level in (0.001, 0.3, 0.9):
        x = float(predictive.icdf(torch.tensor([[level]], dtype=torch.float64)))
        assert (weights * normal.cdf(x)).sum() == pytest.approx(level, abs=1e-9)


def test_gradient_of_the_means():
    """∂/∂m_k = r_k (m_k + c_k − y)/σ_k², r the responsibilities."""
    likelihood = MixtureOfGaussians(2, min_variance=1e-12).fit(Y[:, :1])
    a, m, s, y = np.array([0.5, 0.0]), np.array([0.1, -0.3]), np.array([-0.5, 0.2]), 0.4
    output = torch.tensor(np.concatenate([a, m, s]))[None].requires_grad_()
    likelihood.loss(output, torch.tensor([[y]], dtype=torch.float64)).sum().backward()
    place, variance = np.array([-1.0, 1.0]) + m, np.exp(s)
    joint = np.exp(a) * stats.norm(place, np.sqrt(variance)).pdf(y)
    share = joint / joint.sum()
    weights = np.exp(a) / np.exp(a).sum()
    expected = [
        *(weights - share),
        *(share * (place - y) / variance),
        *(0.5 * share * (1 - (y - place) ** 2 / variance)),
    ]
    np.testing.assert_allclose(output.grad[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_two_places(posterior):
    """y = ±x: two components find both, a normal distribution cannot."""
    random = np.random.default_rng(0)
    x = random.uniform(0.5, 1.5, size=600)
    y = np.where(random.random(600) < 0.5, x, -x) * 10 + 0.5 * random.normal(size=600)
    options = {"posterior": posterior, "max_epochs": 60, "lr": 0.01, "random_state": 0}
    mixture = TorchRegressor(Plain, likelihood=MixtureOfGaussians(2), **options).fit(x[:, None], y)
    quartiles = mixture.predict_quantiles(np.array([[0.7], [1.3]]), [0.25, 0.75])
    np.testing.assert_allclose(quartiles, [[-7, 7], [-13, 13]], atol=1)
    np.testing.assert_allclose(mixture.predict(np.array([[1.0]])), 0, atol=1.5)
    assert mixture.predict_uncertainty(np.array([[1.0]]))[0] == pytest.approx(100, rel=0.15)
    normal = TorchRegressor(Plain, likelihood=Gaussian(), **options).fit(x[:, None], y)
    nll = [m.likelihood_.negative_log_likelihood(
        m.draws(torch.tensor(x[:, None]))[0].detach().double(),
        torch.tensor(m.likelihood_.encode(y[:, None])),
    ).mean() for m in (mixture, normal)]  # fmt: skip
    assert nll[0] < nll[1] - 1
