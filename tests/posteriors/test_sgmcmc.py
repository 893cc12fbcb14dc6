"""Markov chains: their stationary distribution, and the posterior of a linear regression."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Categorical, Gaussian, Laplace
from skuq.posteriors import SGMCMC, PointEstimate
from skuq.posteriors._langevin import Langevin
from tests.posteriors.toys import KnownNoise, exact_posterior

OPTIONS = {
    "module__hidden_layer_sizes": (6,),
    "lr": 0.01,
    "max_epochs": 3,
    "batch_size": 60,
    "random_state": 0,
}


# -- the step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize(("friction", "lr"), [(0.1, 0.01), (0.4, 0.03), (1.0, 0.05)])
def test_the_stationary_distribution(friction, lr, temperature):
    """Many chains at once on ½ h (θ − m)² per row, with a prior at zero."""
    h, m = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1.0, -2.0, 0.5])
    n_rows, prior_precision = 20, 5.0
    chains = nn.Parameter(torch.zeros(1500, 3))
    sampler = Langevin(
        [chains], lr=lr, friction=friction, n_rows=n_rows, prior_precision=prior_precision,
        temperature=temperature, seed=3,
    )  # fmt: skip
    for _ in range(int(14 * friction / lr)):
        chains.grad = h * (chains.detach() - m)
        sampler.step()
    precision = n_rows * h + prior_precision
    mean, sd = n_rows * h * m / precision, (temperature / precision).sqrt()
    found = chains.detach()
    error = (found.mean(0) - mean) / sd
    assert error.abs().max() < 0.12
    ratios = found.std(0) / sd
    assert (ratios - 1).abs().max() < 0.07  # the error of a sample, and of finite steps


def test_the_error_of_finite_steps_is_known():
    """The chain on a quadratic is an autoregression of second order, with a known variance."""
    friction, lr, h = 0.3, 0.8, 1.0
    chains = nn.Parameter(torch.zeros(40_000))
    sampler = Langevin([chains], lr, friction, 1.0, 0.0, 1.0, seed=0)
    for _ in range(60):
        chains.grad = h * chains.detach()
        sampler.step()
    expected = (2 - friction) / (2 - friction - lr * h / 2)
    assert float(chains.detach().var()) == pytest.approx(expected, rel=0.03)


def test_temperature_zero_is_descent_with_momentum():
    torch.manual_seed(0)
    start = torch.randn(7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    sampler = Langevin([ours], 0.1, 0.3, 10.0, 2.0, 0.0, seed=0)
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.7, weight_decay=0.2)
    for step in range(5):
        for parameter in (ours, theirs):
            parameter.grad = parameter.detach() ** 3 + step
        sampler.step()
        optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_the_noise_of_a_step_depends_on_its_number():
    """So a chain that goes on from a checkpoint is the same."""

    def walk(parameter, sampler, n_steps):
        for _ in range(n_steps):
            parameter.grad = parameter.detach().clone()
            sampler.step()

    def begin():
        parameter = nn.Parameter(torch.ones(5))
        return parameter, Langevin([parameter], 0.1, 0.3, 10.0, 2.0, 1.0, seed=4)

    whole, sampler = begin()
    walk(whole, sampler, 6)
    first, sampler = begin()
    walk(first, sampler, 2)
    second, resumed = begin()
    second.data.copy_(first.data)
    resumed.load_state_dict(sampler.state_dict())
    walk(second, resumed, 4)
    assert torch.equal(whole, second)


# -- the posterior ---------------------------------------------------------------------------------


class Linear(nn.Linear):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)


def linear_data(n_rows=60):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 2)) * [1.0, 0.7]
    return X, X @ [1.0, -1.0] + 0.3 + 0.5 * random.normal(size=n_rows)


def weights_of(fitted):
    draws = fitted._engine.draws
    tensors = draws.tensors(0, draws.n_draws)
    return torch.cat([t.flatten(1) for t in tensors.values()], dim=1).double().numpy()


@pytest.mark.parametrize(("sampler", "lr"), [("sghmc", 0.01), ("sgld", 0.06)])
def test_linear_regressions(sampler, lr):
    """The posterior of weights is normal, given the noise; each target is another regression."""
    X, _ = linear_data()
    random = np.random.default_rng(2)
    y = X @ random.normal(size=(2, 30)) + 0.5 * random.normal(size=(60, 30))
    posterior = SGMCMC(
        sampler, n_cycles=1, n_draws_per_cycle=40, n_epochs=400, lr=lr, prior_precision=4.0
    )
    regressor = TorchRegressor(
        Linear, posterior=posterior, likelihood=KnownNoise(), lr=0.05, max_epochs=50,
        batch_size=60, random_state=0,
    )  # fmt: skip
    draws = regressor.fit(X, y)._engine.draws.tensors(0, 40)
    drawn = torch.cat([draws["weight"], draws["bias"][..., None]], dim=-1).double().numpy()
    mean, precision = exact_posterior(X, y, 0.5, [4.0] * 3)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    errors = (drawn - mean.T) / sd  # (n_draws, n_targets, n_weights), standard normal
    np.testing.assert_allclose(errors.std((0, 1)), 1, atol=0.12)
    np.testing.assert_allclose(errors.mean((0, 1)), 0, atol=0.2)


def test_the_default_learning_rate_follows_the_curvature():
    X, y = linear_data()
    design = np.column_stack([X, np.ones(60)])
    curvature = np.linalg.eigvalsh(design.T @ design / 60).max()
    posterior = SGMCMC(n_cycles=1, n_draws_per_cycle=1, n_epochs=2)
    for sd, expected in ((0.1, 0.1 / (curvature / 0.01)), (10.0, 0.01)):
        regressor = TorchRegressor(
            Linear, posterior=posterior, likelihood=KnownNoise(sd), lr=0.05, max_epochs=1,
            batch_size=60, random_state=0,
        )  # fmt: skip
        assert regressor.fit(X, y).posterior_.lr_ == pytest.approx(expected, rel=0.02)


class OnceDifferentiable(nn.Module):
    """torch has no second derivative of the distance |x − c|₁."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(4, n_features))
        self.last = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.last(torch.cdist(x, self.centres, p=1))


def test_no_second_derivatives(blobs):
    X, y = blobs
    options = {"max_epochs": 1, "lr": 1e-6, "random_state": 0}
    with pytest.raises(ValueError, match=r"SGMCMC\(lr=None\) needs second derivatives"):
        TorchClassifier(OnceDifferentiable, posterior=SGMCMC(), **options).fit(X, y)
    posterior = SGMCMC(n_cycles=1, n_draws_per_cycle=1, n_epochs=2, lr=1e-6)
    TorchClassifier(OnceDifferentiable, posterior=posterior, **options).fit(X, y)


def test_weight_two_is_a_row_twice():
    """To the bit up to rounding: gradients, noise and amount of data are the same."""
    X, y = linear_data(40)
    weight = np.where(np.arange(40) % 2, 2.0, 1.0)
    repeated = np.repeat(np.arange(40), weight.astype(int))
    regressor = TorchRegressor(
        Linear, posterior=SGMCMC(n_cycles=2, n_draws_per_cycle=2, n_epochs=8, lr=0.01),
        likelihood=Gaussian(standardise=False), optimizer=torch.optim.SGD, lr=0.01, max_epochs=3,
        batch_size=1000, precision="float64", random_state=0,
    )  # fmt: skip
    weighted = weights_of(clone(regressor).fit(X, y, sample_weight=weight))
    twice = weights_of(clone(regressor).fit(X[repeated], y[repeated]))
    np.testing.assert_allclose(weighted, twice, rtol=0, atol=1e-10)
    once = weights_of(clone(regressor).fit(X, y))
    assert np.abs(once - twice).max() > 1e-3


def test_a_strong_prior_holds_the_weights(blobs):
    X, y = blobs
    posterior = SGMCMC(n_cycles=1, n_draws_per_cycle=20, n_epochs=60, prior_precision=1e4)
    drawn = weights_of(TorchClassifier(posterior=posterior, **OPTIONS).fit(X, y))
    assert np.abs(drawn.mean(0)).max() < 0.05
    assert drawn.std() == pytest.approx(1e-2, rel=0.2)


def test_draws_are_those_of_the_second_halves(blobs, monkeypatch):
    X, y = blobs
    from skuq.posteriors import _sgmcmc

    epochs = []

    class Watching(_sgmcmc._Keeper):
        def after_epoch(self, module, epoch):
            before = len(self.weights)
            super().after_epoch(module, epoch)
            epochs.append((epoch, len(self.weights) - before))

    monkeypatch.setattr(_sgmcmc, "_Keeper", Watching)
    posterior = SGMCMC(n_cycles=2, n_draws_per_cycle=3, n_epochs=13)
    fitted = TorchClassifier(posterior=posterior, **OPTIONS).fit(X, y)
    assert fitted.predict_draws(X).shape[0] == 6
    kept = [(1, 0), (2, 0), (3, 1), (4, 0), (5, 1), (6, 0), (7, 1)]
    assert epochs == kept * 2


def test_a_colder_chain_is_narrower(blobs):
    X, y = blobs
    posterior = SGMCMC(n_cycles=2, n_draws_per_cycle=5, n_epochs=20)
    spread = [
        weights_of(
            TorchClassifier(
                posterior=clone(posterior).set_params(temperature=temperature), **OPTIONS
            ).fit(X, y)
        )[:5].std(0).mean()
        for temperature in (1.0, 1e-4)
    ]  # fmt: skip
    assert spread[1] < 0.3 * spread[0]


class Dropped(nn.Sequential):
    """All outputs are zero in training, unless dropout is off."""

    def __init__(self, n_features, n_outputs):
        super().__init__(nn.Linear(n_features, n_outputs), nn.Dropout(1 - 1e-7))


def test_dropout_is_off(blobs):
    X, y = blobs
    options = {"lr": 1e-9, "max_epochs": 1, "batch_size": 240, "random_state": 0}
    posterior = SGMCMC(n_cycles=1, n_draws_per_cycle=1, n_epochs=100, temperature=1e-9)
    fitted = TorchClassifier(Dropped, posterior=posterior, **options).fit(X, y)
    before = TorchClassifier(Dropped, posterior=PointEstimate(), **options).fit(X, y)
    assert fitted.score(X, y) > before.score(X, y) + 0.2
    assert fitted.module_[1].p > 0.99


@pytest.mark.parametrize("likelihood", [Gaussian(False), Laplace(False)], ids=str)
def test_noise_without_unseen_rows(likelihood):
    """It is that of the training rows."""
    X, y = linear_data()
    trained = TorchRegressor(
        Linear, likelihood=likelihood, posterior=PointEstimate(), lr=0.1, max_epochs=30,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    posterior = SGMCMC(n_cycles=1, n_draws_per_cycle=2, n_epochs=4, lr=1e-4)
    model = TorchRegressor(
        lambda: trained.module_, likelihood=likelihood, posterior=posterior, max_epochs=0,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    residuals = np.abs(y - trained.predict(X)) / y.std()
    if isinstance(likelihood, Gaussian):
        expected, found = (residuals**2).mean(), model.likelihood_.noise_variance_[0]
    else:
        expected, found = residuals.mean(), model.likelihood_.noise_scale_[0]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sampler": "nuts"}, "The 'sampler' parameter of SGMCMC"),
        ({"temperature": 0.0}, "The 'temperature' parameter of SGMCMC"),
        ({"prior_precision": -1.0}, "The 'prior_precision' parameter of SGMCMC"),
        ({"lr": 0.0}, "The 'lr' parameter of SGMCMC"),
        ({"n_epochs": 11}, r"at least 2 \* n_draws_per_cycle = 12, got 11"),
    ],
    ids=str,
)
def test_bad_parameters(bad, message, blobs):
    with pytest.raises(ValueError, match=message):
        TorchClassifier(posterior=SGMCMC(**bad)).fit(*blobs)


def test_the_walk_follows_the_likelihood_where_the_loss_is_something_else(blobs):
    X, y = blobs
    plain, smoothed = (
        TorchClassifier(
            module__hidden_layer_sizes=(6,), posterior=SGMCMC(**SGMCMC.quick), max_epochs=0,
            likelihood=likelihood, random_state=0,
        ).fit(X, y).predict_proba(X)
        for likelihood in (Categorical(), Categorical(label_smoothing=0.3))
    )  # fmt: skip
    np.testing.assert_array_equal(plain, smoothed)
