"""The link of the noise: exponential near the data, a straight line far away, and bounded."""

import math

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchRegressor
from skuq.likelihoods import (
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    StochasticLogits,
    StudentT,
)
from skuq.likelihoods._links import LINEAR_FROM, MOST_NOISE, positive, positive_slope

END = LINEAR_FROM - 1 + MOST_NOISE / math.exp(LINEAR_FROM)
REAL = [Gaussian(), Gaussian(beta=0), Laplace(), StudentT(), StudentT("free"), MixtureOfGaussians()]


def test_the_link_is_exponential_then_a_tangent_then_constant():
    near = torch.linspace(-30, LINEAR_FROM, 50, dtype=torch.float64)
    torch.testing.assert_close(positive(near, LINEAR_FROM), near.exp())
    far = torch.linspace(LINEAR_FROM, END, 50, dtype=torch.float64)
    tangent = math.exp(LINEAR_FROM) * (1 + far - LINEAR_FROM)
    torch.testing.assert_close(positive(far, LINEAR_FROM), tangent)
    beyond = torch.tensor([END, END + 1, 1e10, math.inf], dtype=torch.float64)
    torch.testing.assert_close(positive(beyond, LINEAR_FROM), torch.full_like(beyond, MOST_NOISE))


@pytest.mark.parametrize("linear_from", [None, LINEAR_FROM, 8.0])
def test_the_slope_is_the_derivative(linear_from):
    raw = torch.tensor([-31.0, -29.0, -3.0, 0.0, 3.9, 4.1, 7.9, 8.1, 29.0, 31.0, 150.0, 1e6])
    raw = raw.double().requires_grad_()
    (expected,) = torch.autograd.grad(positive(raw, linear_from).sum(), raw)
    torch.testing.assert_close(positive_slope(raw.detach(), linear_from), expected)


@pytest.mark.parametrize("likelihood", REAL, ids=str)
def test_no_output_stands_for_an_absurd_noise(likelihood):
    y = np.random.default_rng(0).normal(3.0, 50.0, size=(200, 1))
    likelihood.fit(y)
    raw = torch.tensor([10.0, 50.0, 100.0, 1000.0, 1e6], dtype=torch.float64)
    output = raw[:, None].expand(-1, likelihood.n_outputs_).clone()
    n_locations = likelihood.links().count("location")
    start = likelihood.links().index("location")
    output[:, start : start + n_locations] = 0  # the means are not noise
    if likelihood.n_outputs_ == 3 and isinstance(likelihood, StudentT):
        output[:, 2] = 10.0  # many degrees of freedom
    most = likelihood.predictive(output).stddev / y.std()
    assert (most > 5).all() and (most <= 1.5 * math.sqrt(MOST_NOISE)).all()
    assert (most.diff(dim=0) >= -1e-9).all()  # more is never less


@pytest.mark.parametrize("likelihood", [*REAL, Poisson()], ids=str)
@pytest.mark.parametrize("size", [1.0, 30.0, 1e3, 1e6])
def test_losses_and_gradients_are_finite_and_point_back(likelihood, size):
    y = np.abs(np.random.default_rng(0).normal(size=(200, 1)))
    likelihood.fit(y)
    target = torch.as_tensor(likelihood.encode(y))
    output = torch.full((200, likelihood.n_outputs_), size, dtype=torch.float64).requires_grad_()
    loss = likelihood.loss(output, target)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()


def test_stochastic_logits_stay_finite():
    likelihood = StochasticLogits().fit(np.array([0, 1, 2]))
    output = torch.tensor([[5.0, 0.0, 0.0, 1e6, 1e6, 1e6]], requires_grad=True)
    loss = likelihood.loss(output, torch.tensor([1]))
    loss.sum().backward()
    assert torch.isfinite(output.grad).all() and float(loss.detach()) < 5


@pytest.mark.parametrize("likelihood", [*REAL, Poisson()], ids=str)
@pytest.mark.parametrize("times", [10, 100])
def test_rows_far_from_the_training_range(likelihood, times):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 2))
    y = np.abs(X[:, 0] + 0.3 * np.exp(X[:, 1]) * rng.normal(size=150))
    regressor = TorchRegressor(likelihood=likelihood, max_epochs=30, lr=0.01, random_state=0)
    model = make_pipeline(StandardScaler(), regressor).fit(X, y)
    noise = skuq.predict_uncertainty(model, times * X, kind="aleatoric") ** 0.5
    assert np.isfinite(noise).all() and noise.max() <= 100 * 4.6 * y.std()


@pytest.mark.parametrize("likelihood", [Gaussian(), Laplace(), StudentT(), Poisson()], ids=str)
def test_what_was_fitted_before_keeps_its_link(likelihood):
    """Files and pickles of then have no attribute that says where the link is linear."""
    likelihood.fit(np.array([[1.0], [3.0]]))
    del likelihood.__dict__["_linear_from"]
    output = torch.tensor([[9.0] * likelihood.n_outputs_], dtype=torch.float64)
    predictive = likelihood.predictive(output)
    found = predictive.rate / 2 if isinstance(likelihood, Poisson) else predictive.stddev
    expected = {Gaussian: math.exp(4.5), Laplace: math.sqrt(2) * math.exp(9), Poisson: math.exp(9)}
    expected[StudentT] = math.exp(9) * math.sqrt(2)
    assert float(found) == pytest.approx(expected[type(likelihood)], rel=1e-3)
