"""One noise level for all rows: where it is learnt, and without the spread of the draws."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import nn

from skuq import TorchRegressor
from skuq._engine._draws import Draws
from skuq._estimator._noise import splits_for_noise
from skuq.likelihoods import Gaussian, Laplace
from skuq.likelihoods._noise import common_noise
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate, Posterior


class Linear(nn.Linear):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs, bias=False)


class Conjugate(Posterior):
    """Samples of the weights of a linear regression with a flat prior, given the noise."""

    noise = "given"

    def __init__(self, n_draws=200):
        self.n_draws = n_draws

    def fit(self, problem):
        (network,) = problem.train()
        X, y = (torch.cat(parts).numpy() for parts in zip(*problem.batches()))
        y = y[:, 0]
        gram = X.T @ X
        best = np.linalg.solve(gram, X.T @ y)
        variance = ((y - X @ best) ** 2).sum() / (len(X) - X.shape[1])
        random = np.random.default_rng(problem.seed())
        spread = np.linalg.cholesky(np.linalg.inv(gram) * variance)
        weights = best + random.normal(size=(self.n_draws, len(best))) @ spread.T
        return Draws(network, {"weight": torch.tensor(weights[:, None, :])})


def linear_data(n_rows=900, n_features=300, noise=2.0):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, n_features))
    return X, X @ random.normal(size=n_features) / 5 + noise * random.normal(size=n_rows)


def regressor(posterior, **options):
    options = {"precision": "float64", "random_state": 0, **options}
    likelihood = options.pop("likelihood", Gaussian(heteroscedastic=False))
    module = options.pop("module", Linear)
    return TorchRegressor(module, posterior=posterior, likelihood=likelihood, **options)


def noise_of(fitted):
    return fitted.likelihood_.noise_variance_[0] * fitted.likelihood_.scale_[0] ** 2


@pytest.mark.parametrize("early_stopping", [False, True])
def test_draws_given_the_noise_recover_it(early_stopping):
    """With a parameter for three rows; the best of the mixture on these rows would be .38 of it."""
    X, y = linear_data()
    options = {"early_stopping": True, "max_epochs": 1} if early_stopping else {"max_epochs": 0}
    fitted = regressor(Conjugate(), **options).fit(X, y)
    assert noise_of(fitted) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_network_s_noise_is_that_of_rows_it_has_not_seen(stopping):
    """Least squares: on its rows σ²(1 − p/n), on others σ²(1 + p/(n − p)) = 6 of 4."""
    X, y = linear_data()
    fitted = regressor(
        PointEstimate(), optimizer=torch.optim.LBFGS, lr=1.0, batch_size=10**4, max_epochs=6,
        early_stopping=stopping,
    ).fit(X, y)  # fmt: skip
    on_its_rows = np.mean((y - fitted.predict(X)) ** 2)
    unseen, truth = linear_data(n_rows=3000), np.random.default_rng(0)
    truth.normal(size=(900, 300))
    weights = truth.normal(size=300) / 5
    on_others = np.mean((unseen[0] @ weights - fitted.predict(unseen[0])) ** 2) + 4
    assert on_its_rows < 3.2
    assert noise_of(fitted) == pytest.approx(on_others, rel=0.25)


class Loose(nn.Sequential):
    """Draws differ by much more than the noise."""

    def __init__(self, n_features, n_outputs):
        super().__init__(nn.Linear(n_features, 50), nn.Tanh(), nn.Dropout(0.5))
        self.append(nn.Linear(50, n_outputs))


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_the_noise_does_not_hold_the_spread_of_the_draws(kind):
    random = np.random.default_rng(0)
    X = random.normal(size=(1000, 2))
    y = 5 * np.sin(X[:, 0]) + X[:, 1] + 0.1 * random.normal(size=1000)
    fitted = regressor(
        MCDropout(20), module=Loose, likelihood=kind(False), lr=0.01, max_epochs=30
    ).fit(X[:200], y[:200])
    draws = fitted.predict_draws(X[200:])[..., 0]

    def loss(noise):
        law = stats.norm(draws, np.sqrt(noise)) if kind is Gaussian else stats.laplace(draws, noise)
        return -logsumexp(law.logpdf(y[200:]), axis=0).mean()

    residual = np.abs(fitted.predict_draws(X[:200])[..., 0] - y[:200])
    before = (residual**2).mean() if kind is Gaussian else residual.mean()
    learnt = fitted.likelihood_
    noise = noise_of(fitted) if kind is Gaussian else learnt.noise_scale_[0] * learnt.scale_[0]
    best = min(loss(value) for value in np.geomspace(noise / 5, noise * 5, 40))
    assert loss(noise) < loss(before) - 0.05
    assert loss(noise) < best + 0.1


@pytest.mark.parametrize("power", [1, 2])
def test_noise_at_the_ends_of_its_range(power):
    """Draws that are nearly alike; draws of which one is right."""
    target = np.random.default_rng(0).normal(size=(50, 1))
    alike = np.zeros((4, 50, 1)) + 1e-4 * np.arange(4)[:, None, None]
    one_right = np.stack([target + 1e-3, target + 1e3])

    def noise(output, least=1e-12, weight=None):
        def evaluate(reduction, *aligned):
            return reduction(torch.tensor(output), *map(torch.tensor, aligned)).numpy()

        return common_noise(evaluate, target, weight, power, False, least)[0]

    assert noise(alike) == pytest.approx(np.mean(np.abs(target) ** power), rel=1e-3)
    assert noise(one_right) == pytest.approx(1e-3**power, rel=1e-3)
    for rows in (np.abs(target[:, 0]) > 1, np.abs(target[:, 0]) < 0.3):  # less or more than usual
        expected = np.mean(np.abs(target[rows]) ** power)
        assert noise(alike, weight=rows.astype(float)) == pytest.approx(expected, rel=1e-2)
    assert noise(np.stack([target, target])) == 1e-12
    assert noise(target[None] + 1e-3, least=0.5) == 0.5


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_likelihood_of_the_mixture_is_highest(power, weighted):
    random = np.random.default_rng(0)
    output, target = random.normal(size=(7, 40, 2)), random.normal(size=(40, 2))
    weight = random.uniform(0.1, 2, size=40) if weighted else None

    def evaluate(reduction, *aligned):
        return reduction(torch.tensor(output), *map(torch.tensor, aligned)).numpy()

    found = common_noise(evaluate, target, weight, power, False, 1e-9)
    for index in range(2):

        def loss(noise, index=index):
            law = stats.laplace if power == 1 else stats.norm
            scale = noise if power == 1 else np.sqrt(noise)
            density = law.pdf(target[:, index], output[..., index], scale).mean(0)
            return -np.average(np.log(density), weights=weight)

        grid = np.geomspace(found[index] / 30, found[index] * 30, 301)
        best = min(map(loss, grid))
        assert loss(found[index]) <= best + 1e-9
    mean = common_noise(evaluate, target, weight, power, True, 1e-9)
    expected = np.average((np.abs(target - output) ** power).mean(0), axis=0, weights=weight)
    np.testing.assert_allclose(mean, expected)


def test_weight_two_is_a_row_twice():
    random = np.random.default_rng(0)
    output, target = random.normal(size=(5, 30, 1)), random.normal(size=(30, 1))
    weight = random.integers(1, 4, size=30)

    def noise(rows, weight):
        def evaluate(reduction, *aligned):
            return reduction(torch.tensor(output[:, rows]), *map(torch.tensor, aligned)).numpy()

        return common_noise(evaluate, target[rows], weight, 2, False, 1e-9)

    every, twice = np.arange(30), np.repeat(np.arange(30), weight)
    np.testing.assert_allclose(noise(every, weight.astype(float)), noise(twice, None), rtol=1e-5)


@pytest.mark.parametrize("power", [1, 2])
def test_exact_draws_have_the_least_noise(power):
    def evaluate(reduction, *aligned):
        return reduction(torch.ones(3, 10, 1), *map(torch.tensor, aligned)).numpy()

    assert common_noise(evaluate, np.ones((10, 1)), None, power, False, 1e-3) == [1e-3]


@pytest.mark.parametrize("n_rows", [10, 60, 277, 1000, 5000, 20_000])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_set_apart(n_rows, grouped):
    groups = np.arange(n_rows) // 2 if grouped else None
    splits, stays = splits_for_noise(n_rows, groups, seed=0)
    apart = np.concatenate([held for _, held in splits])
    assert len(set(apart)) == len(apart) >= min(100, n_rows)
    assert stays == (n_rows == 20_000) and len(apart) <= max(210, n_rows // 10 + 1)
    for train, held in splits:
        assert sorted([*train, *held]) == list(range(n_rows))
        assert not grouped or not set(groups[train]) & set(groups[held])


def test_too_few_rows_or_groups():
    assert splits_for_noise(9, None, seed=0) == ([], False)
    assert splits_for_noise(50, np.zeros(50), seed=0) == ([], False)


class Counting(PointEstimate):
    sizes = []

    def fit(self, problem):
        self.sizes.append(problem.n_rows)
        return super().fit(problem)


def test_how_often_networks_are_trained(monkeypatch):
    X, y = linear_data(200, 3)

    def sizes(rows=slice(None), **options):
        Counting.sizes.clear()
        model = regressor(Counting(), **{"max_epochs": 1, **options})
        model.fit(X[rows], y[rows])
        return Counting.sizes.copy()

    assert sizes() == [180] * 5 + [200]
    assert sizes(slice(60)) == [54] * 10 + [60]
    assert sizes(early_stopping=True) == [180]
    assert sizes(max_epochs=0) == [200]
    assert sizes(likelihood=Gaussian(), module=None) == [200]
    monkeypatch.setattr("skuq._estimator._noise._MANY", 200)
    assert sizes() == [198]


def test_partial_fit_learns_from_the_rows_it_is_given():
    X, y = linear_data(200, 3)
    fitted = regressor(DeepEnsemble(2)).partial_fit(X, y).partial_fit(X[:50], y[:50])
    draws = fitted.predict_draws(X[:50])[..., 0]

    def loss(noise):
        return -np.log(stats.norm(draws, np.sqrt(noise)).pdf(y[:50]).mean(0)).mean()

    noise = noise_of(fitted)
    assert loss(noise) < min(loss(0.99 * noise), loss(1.01 * noise))


class Own(Posterior):
    noise = "own"

    def fit(self, problem):
        (network,) = problem.train()
        problem.likelihood.noise_variance_ = np.array([0.25])
        return Draws(network)


def test_a_posterior_sets_the_noise_itself():
    X, y = linear_data(50, 3)
    assert regressor(Own(), max_epochs=1).fit(X, y).likelihood_.noise_variance_ == [0.25]


def test_checkpoints_hold_the_other_trainings(tmp_path):
    """A fit that was killed while it learnt the noise ends as if it had not been."""
    X, y = linear_data(60, 3)
    plain = regressor(PointEstimate(), max_epochs=2).fit(X, y)

    class Killed(Counting):
        def fit(self, problem):
            if len(self.sizes) == 3:
                raise KeyboardInterrupt
            return super().fit(problem)

    Counting.sizes.clear()
    model = regressor(PointEstimate(), max_epochs=2, checkpoint_dir=tmp_path)
    Killed.__name__ = Killed.__qualname__ = "PointEstimate"
    with pytest.raises(KeyboardInterrupt):
        model.set_params(posterior=Killed()).fit(X, y)
    again = model.set_params(posterior=PointEstimate()).fit(X, y)
    assert noise_of(again) == noise_of(plain)
    assert np.array_equal(again.predict(X), plain.predict(X))
