"""The absolute error."""

import numpy as np
import pytest
import torch
from torch import distributions

from skuq import TorchRegressor
from skuq.likelihoods import Laplace
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain


def fitted(**options):
    return Laplace(min_scale=1e-9, **options).fit(np.array([[-1.0], [1.0]]))


def test_likelihood_is_torchs():
    output = torch.tensor([[0.7, -0.4], [2.0, 1.5]], dtype=torch.float64)
    y = torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
    theirs = distributions.Laplace(output[:, :1], output[:, 1:].exp())
    likelihood = fitted()
    torch.testing.assert_close(likelihood.loss(output, y), -theirs.log_prob(y)[:, 0])
    torch.testing.assert_close(likelihood.predictive(output).variance, theirs.variance)


def test_gradients_and_best_scale():
    """∂/∂m = −sign(y − m)/b, ∂/∂s = 1 − |y − m|/b: zero at b = |y − m|."""
    m, s, y = 0.2, 0.3, 2.0
    output = torch.tensor([[m, s]], dtype=torch.float64, requires_grad=True)
    fitted().loss(output, torch.tensor([[y]], dtype=torch.float64)).sum().backward()
    expected = [-np.exp(-s), 1 - (y - m) * np.exp(-s)]
    np.testing.assert_allclose(output.grad[0].numpy(), expected, rtol=1e-7)


def test_homoscedastic_loss_is_the_absolute_error():
    likelihood = fitted(heteroscedastic=False)
    assert likelihood.n_outputs_ == 1
    output, y = torch.tensor([[1.0], [-2.0]]), torch.tensor([[3.5], [0.0]])
    expected = torch.nn.functional.l1_loss(output, y, reduction="none")[:, 0]
    torch.testing.assert_close(likelihood.loss(output, y), expected)


@pytest.mark.parametrize("heteroscedastic", [True, False])
def test_location_is_the_median(heteroscedastic):
    """And the scale the mean absolute residual."""
    y = np.tile([0.0, 0.0, 1.0, 2.0, 30.0], 20)
    model = TorchRegressor(
        Plain, likelihood=Laplace(heteroscedastic), posterior=PointEstimate(), max_epochs=400,
        lr=0.003, batch_size=100, random_state=0,
    ).fit(np.zeros((100, 1)), y)  # fmt: skip
    assert model.predict(np.zeros((1, 1)))[0] == pytest.approx(1, abs=0.2)
    residual = np.abs(y - 1).mean()
    variance = model.predict_uncertainty(np.zeros((1, 1)))[0]
    assert variance == pytest.approx(2 * residual**2, rel=0.1)


def test_homoscedastic_noise_of_several_targets():
    random = np.random.default_rng(0)
    X = random.normal(size=(100, 2))
    y = 50 + 10 * random.laplace(size=(100, 2)) * [1, 3]
    model = TorchRegressor(
        Plain, likelihood=Laplace(False), posterior=DeepEnsemble(3), max_epochs=5, random_state=0
    ).fit(X, y)
    noise = model.likelihood_.noise_scale_ * model.likelihood_.scale_
    np.testing.assert_allclose(noise, np.abs(y - 50).mean(0), rtol=0.3)
    aleatoric = model.predict_uncertainty(X, kind="aleatoric")
    np.testing.assert_allclose(aleatoric, np.tile(2 * noise**2, (100, 1)), rtol=1e-6)
