"""The normal likelihood: density, gradients, minimisers, edges."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq.likelihoods import Gaussian, Laplace


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def gaussian(n_targets=1, **options):
    """Fitted to targets of mean 0 and variance 1: reported and standardised units agree."""
    y = np.repeat([[-1.0], [1.0]], n_targets, axis=1)
    return Gaussian(min_variance=1e-12, **options).fit(y)


@pytest.mark.parametrize("output", [(0.3, -2.0), (5.0, 1.0), (0.0, 0.0)])
def test_gaussian_density_integrates_to_one(output):
    likelihood = gaussian(beta=0.0)
    grid = torch.linspace(-60, 60, 200_001, dtype=torch.float64)[:, None]
    outputs = tensor(*output).expand(len(grid), 2)
    density = (-likelihood.negative_log_likelihood(outputs, grid)).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-6)
    normal = likelihood.predictive(tensor(*output)[None])
    moments = [float(torch.trapezoid(density * grid[:, 0] ** k, grid[:, 0])) for k in (1, 2)]
    assert float(normal.mean) == pytest.approx(moments[0], abs=1e-5)
    assert float(normal.variance) == pytest.approx(moments[1] - moments[0] ** 2, rel=1e-5)


def test_gaussian_likelihood_is_in_units_of_y():
    y = np.array([[10.0], [30.0], [50.0], [70.0]])
    likelihood = Gaussian(min_variance=1e-12).fit(y)
    output, target = tensor(0.4, -0.3)[None], tensor(33.0)[None]
    z = torch.as_tensor(likelihood.encode(target.numpy()))
    expected = -likelihood.predictive(output).log_prob(target)[0, 0]
    assert float(likelihood.negative_log_likelihood(output, z)) == pytest.approx(float(expected))


def test_gaussian_equals_torch():
    random = torch.Generator().manual_seed(0)
    output = torch.randn(50, 6, dtype=torch.float64, generator=random)
    y = torch.randn(50, 3, dtype=torch.float64, generator=random)
    theirs = nn.GaussianNLLLoss(full=True, reduction="none")(
        output[:, :3], y, output[:, 3:].exp()
    ).sum(1)
    torch.testing.assert_close(gaussian(3).negative_log_likelihood(output, y), theirs)


def test_gradients_of_the_negative_log_likelihood():
    """∂/∂h = e^{−s}(h − y), ∂/∂s = ½(1 − e^{−s}(y − h)²)."""
    h, s, y = 0.7, -1.3, 2.0
    output = tensor(h, s)[None].requires_grad_()
    gaussian(beta=0.0).loss(output, tensor(y)[None]).sum().backward()
    expected = [np.exp(-s) * (h - y), 0.5 * (1 - np.exp(-s) * (y - h) ** 2)]
    np.testing.assert_allclose(output.grad[0].numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_gradients_of_beta_nll(beta):
    """∂μ = σ^{2β−2}(μ − y); ∂σ² = ½σ^{2β−4}(σ² − (y − μ)²)."""
    mu, s, y = 0.7, -1.3, 2.0
    variance = np.exp(s)
    output = tensor(mu, s)[None].requires_grad_()
    gaussian(beta=beta).loss(output, tensor(y)[None]).sum().backward()
    of_variance = 0.5 * variance ** (beta - 2) * (variance - (y - mu) ** 2)
    expected = [variance ** (beta - 1) * (mu - y), of_variance * variance]
    np.testing.assert_allclose(output.grad[0].numpy(), expected, rtol=1e-8)


def test_minimiser_of_the_log_variance():
    """For a fixed residual r: s = log r²."""
    output = tensor(0.0, 0.0)[None].requires_grad_()
    optimizer = torch.optim.LBFGS([output], lr=0.5, max_iter=200)
    likelihood, y = gaussian(beta=0.0), tensor(3.0)[None]

    def closure():
        optimizer.zero_grad()
        loss = likelihood.loss(torch.cat([output[:, :1] * 0, output[:, 1:]], 1), y).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(output.detach()[0, 1]) == pytest.approx(np.log(9), abs=1e-3)


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_a_common_noise_is_learnt_on_rows_left_out(kind):
    """Where the network says it of each row, training learns it."""
    assert kind(heteroscedastic=False).wants_unseen_rows
    assert not kind().wants_unseen_rows


def test_homoscedastic_loss_is_half_the_squared_error():
    likelihood = gaussian(2, heteroscedastic=False)
    assert likelihood.n_outputs_ == 2
    loss = likelihood.loss(tensor(1.0, 2.0)[None], tensor(0.0, 0.0)[None])
    assert float(loss) == 2.5
    normal = likelihood.predictive(torch.zeros(1, 2, dtype=torch.float64))
    np.testing.assert_allclose(normal.variance.numpy(), 1)


@pytest.mark.parametrize("heteroscedastic", [True, False])
def test_finite_at_any_output(heteroscedastic):
    likelihood = gaussian(heteroscedastic=heteroscedastic)
    n = likelihood.n_outputs_
    for value in (1e4, -1e4):
        output = torch.full((1, n), value, dtype=torch.float32, requires_grad=True)
        loss = likelihood.loss(output, torch.zeros(1, 1))
        loss.sum().backward()
        assert torch.isfinite(loss).all() and torch.isfinite(output.grad).all()
        assert torch.isfinite(likelihood.predictive(output).variance).all()


def test_constant_targets():
    likelihood = Gaussian().fit(np.full((5, 1), 1e6))
    assert likelihood.scale_ == 1 and (likelihood.encode(np.full((2, 1), 1e6)) == 0).all()


def test_the_factor_of_the_variance_is_a_mean_of_squares():
    """With 20 rows of 1 added, for each target; predictions have it, training does not."""
    y = np.random.default_rng(0).normal(size=(60, 2)) * [3.0, 0.1]
    likelihood = Gaussian().fit(y)
    output = torch.tensor(np.random.default_rng(1).normal(size=(60, 4)))
    weight, target = np.arange(60.0), likelihood.encode(y)

    def evaluate(reduction, *aligned):
        return reduction(output[None], *map(torch.as_tensor, aligned)).numpy()

    before = likelihood.predictive(output).variance
    loss = likelihood.loss(output, torch.as_tensor(target))
    likelihood.learn_scale(evaluate, target, weight)
    mean, log_variance = output[:, :2].numpy(), output[:, 2:].numpy()
    squares = (target - mean) ** 2 / (np.exp(log_variance) + 1e-6)
    factor = (weight @ squares + 20) / (weight.sum() + 20)
    np.testing.assert_allclose(likelihood.variance_factor_, factor, rtol=1e-6)
    torch.testing.assert_close(
        likelihood.predictive(output).variance, before * torch.as_tensor(factor)
    )
    assert torch.equal(likelihood.loss(output, torch.as_tensor(target)), loss)
    of_one_level = Gaussian(heteroscedastic=False).fit(y)
    of_one_level.learn_scale(evaluate, target, weight)
    assert (of_one_level.variance_factor_ == 1).all()
    del likelihood.variance_factor_  # files of older versions have none
    torch.testing.assert_close(likelihood.predictive(output).variance, before)
