"""What every likelihood owes: a distribution, its own negative log-likelihood, no surprises."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skuq.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    NegativeBinomial,
    Poisson,
    Quantile,
    StochasticLogits,
    StudentT,
    UncertaintyAware,
)
from skuq.posteriors import (
    SGMCMC,
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    PointEstimate,
    Variational,
)
from tests.networks import Plain
from tests.test_common import all_likelihoods, estimator_with, fit_or_skip

VARIANTS = [
    Bernoulli("zeros", label_smoothing=0.2),
    Categorical(0.2, "others"),
    Gaussian(heteroscedastic=False),
    Gaussian(beta=0.0, min_variance=1e-3),
    Laplace(heteroscedastic=False),
    MixtureOfGaussians(1),
    NegativeBinomial(min_dispersion=0.3),
    Quantile((0.1, 0.4, 0.8)),
    Quantile((0.6, 0.9)),
    StochasticLogits(3),
    StudentT("free"),
    UncertaintyAware("softmax"),
    UncertaintyAware("softmax", "square", (-3, 3), 0.1),
    UncertaintyAware(log_variance="constant"),
]
ALL = [*all_likelihoods(), *VARIANTS]
REAL = [likelihood for likelihood in ALL if likelihood.task == "regression"]
CLASSES = [likelihood for likelihood in ALL if likelihood.task == "classification"]
N_CLASSES = 4
COUNTS = (Poisson, NegativeBinomial)


def fitted(likelihood, n_targets=1):
    """And targets that it could have been fitted on."""
    likelihood, random = clone(likelihood), np.random.default_rng(0)
    likelihood.validate()
    if likelihood.task == "classification":
        n_classes = 2 if isinstance(likelihood, Bernoulli) else N_CLASSES
        y = np.arange(24) % n_classes
        return likelihood.fit(y, n_classes=n_classes, seed=7), y
    if isinstance(likelihood, COUNTS):
        y = random.poisson(3.0, size=(24, n_targets)).astype(float)
    else:
        y = random.normal(5.0, 2.0, size=(24, n_targets))
    return likelihood.fit(y, seed=7), y


def some_outputs(likelihood, n_rows, scale=0.7, dtype=torch.float64):
    random = torch.Generator().manual_seed(3)
    shape = n_rows, likelihood.n_outputs_
    return (scale * torch.randn(shape, generator=random, dtype=torch.float64)).to(dtype)


def task_data(likelihood, n_rows=120):
    """Data that an estimator with this likelihood learns something from."""
    random = np.random.default_rng(1)
    X = random.normal(size=(n_rows, 4)).astype(np.float32)
    signal = X[:, 0] + 0.3 * random.normal(size=n_rows)
    if likelihood.task == "classification":
        return X, (signal > 0).astype(int)
    if isinstance(likelihood, COUNTS):
        return X, random.poisson(np.exp(1 + 0.5 * X[:, 0])).astype(float)
    return X, 10 + 3 * signal


# -- as mathematical objects -----------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", CLASSES, ids=str)
def test_probabilities_sum_to_one(likelihood):
    likelihood, _ = fitted(likelihood)
    output = some_outputs(likelihood, 6)
    per_class = [
        (-likelihood.negative_log_likelihood(output, torch.full((6,), k))).exp()
        for k in range(likelihood.n_classes_)
    ]
    proba = torch.stack(per_class, 1)
    torch.testing.assert_close(proba.sum(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(likelihood.predictive(output).probs, proba)
    torch.testing.assert_close(likelihood.predictive(output).logits, proba.log())


@pytest.mark.parametrize("likelihood", REAL, ids=str)
def test_densities_integrate_to_one(likelihood):
    likelihood, _ = fitted(likelihood)
    output = some_outputs(likelihood, 1)
    if isinstance(likelihood, COUNTS):
        grid, weights = torch.arange(0.0, 200.0).double(), torch.ones(200).double()
    else:  # dense in the middle, wide enough for heavy tails
        t = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
        grid = t.sinh() * 2 + 5
        weights = torch.full_like(t, 24 / 400_000) * t.cosh() * 2
    rows = output.expand(len(grid), -1)
    target = torch.as_tensor(likelihood.encode(grid[:, None].numpy()))
    nll = likelihood.negative_log_likelihood(rows, target)
    predictive = likelihood.predictive(output)
    torch.testing.assert_close(-nll, predictive.log_prob(grid[:, None])[:, 0], rtol=1e-6, atol=1e-6)
    mass = (-nll).exp() * weights
    assert float(mass.sum()) == pytest.approx(1, abs=3e-4)
    mean = float((mass * grid).sum())
    assert float(predictive.mean) == pytest.approx(mean, abs=1e-3)
    variance = float((mass * (grid - mean) ** 2).sum())
    assert float(predictive.variance) == pytest.approx(variance, rel=5e-3)  # of tails, too
    below = mass.cumsum(0)[:, None] - (0 if isinstance(likelihood, COUNTS) else mass[:, None] / 2)
    torch.testing.assert_close(predictive.cdf(grid[:, None]), below, rtol=0, atol=3e-4)


@pytest.mark.parametrize("likelihood", REAL, ids=str)
def test_quantiles_invert_the_distribution_function(likelihood):
    likelihood, _ = fitted(likelihood, n_targets=2)
    predictive = likelihood.predictive(some_outputs(likelihood, 5))
    assert predictive.batch_shape == (5, 2)
    for level in (1e-4, 0.05, 0.3, 0.5, 0.77, 0.95, 1 - 1e-6):
        q = predictive.icdf(torch.full((5, 2), level, dtype=torch.float64))
        if isinstance(likelihood, COUNTS):
            assert (predictive.cdf(q) >= level).all() and (predictive.cdf(q - 1) < level).all()
        else:
            torch.testing.assert_close(
                predictive.cdf(q), torch.full_like(q, level), rtol=1e-6, atol=0
            )


@pytest.mark.parametrize("likelihood", ALL, ids=str)
def test_losses_are_of_rows_alone(likelihood):
    """Rows of several networks lie in one batch."""
    likelihood, y = fitted(likelihood)
    output = some_outputs(likelihood, len(y))
    target = torch.as_tensor(likelihood.encode(y))
    for rule in (likelihood.loss, likelihood.negative_log_likelihood):
        together = rule(output, target)
        assert together.shape == (len(y),)
        alone = torch.cat([rule(output[i : i + 1], target[i : i + 1]) for i in range(len(y))])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", ALL, ids=str)
def test_gradients_are_those_of_differences(likelihood):
    likelihood, y = fitted(likelihood)
    output = some_outputs(likelihood, len(y)).requires_grad_()
    target = torch.as_tensor(likelihood.encode(y))
    if isinstance(likelihood, Gaussian) and likelihood.beta > 0 and likelihood.heteroscedastic:
        pytest.skip("β-NLL stops a gradient: its formula is tested")
    assert torch.autograd.gradcheck(lambda o: likelihood.loss(o, target), output)
    if likelihood.task == "classification":
        function = lambda o: likelihood.predictive(o).logits
    else:
        function = lambda o: torch.stack(
            [getattr(likelihood.predictive(o), n) for n in ("mean", "variance")]
        )
    assert torch.autograd.gradcheck(function, output)


# -- at the edges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [(1,), (-1,), (1, -1), (-1, 1), (1, 1, -1), (0, -1)])
@pytest.mark.parametrize("likelihood", ALL, ids=str)
def test_finite_at_any_output(likelihood, pattern):
    likelihood, y = fitted(likelihood, n_targets=2)
    signs = torch.tensor(pattern, dtype=torch.float32).repeat(likelihood.n_outputs_)
    output = (1e4 * signs[: likelihood.n_outputs_]).expand(len(y), -1).clone().requires_grad_()
    encoded = likelihood.encode(y)
    target = torch.as_tensor(encoded, dtype=torch.float32 if encoded.dtype.kind == "f" else None)
    loss = likelihood.loss(output, target)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(output.grad).all()
    with torch.no_grad():
        assert torch.isfinite(likelihood.negative_log_likelihood(output, target)).all()
        predictive = likelihood.predictive(output.double())
        if likelihood.task == "classification":
            assert torch.isfinite(predictive.logits).all()
        else:
            assert torch.isfinite(predictive.mean).all() and (predictive.variance > 0).all()
            assert torch.isfinite(predictive.variance).all()
            assert torch.isfinite(predictive.icdf(torch.full((24, 2), 0.9).double())).all()


@pytest.mark.parametrize("likelihood", ALL, ids=str)
def test_finite_after_memorising_five_points(likelihood):
    X = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, -1.0], [-1.0, 2.0]])
    likelihood, _ = fitted(likelihood)
    if likelihood.task == "classification":
        y = np.array([0, 1, 1, 0, 1])
    else:
        y = np.array([[0.0], [3.0], [1.0], [8.0], [8.0]])
        likelihood.fit(y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Plain(2, likelihood.n_outputs_)
    encoded = likelihood.encode(y)
    target = torch.as_tensor(encoded, dtype=torch.float32 if encoded.dtype.kind == "f" else None)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, fused=True)
    for _ in range(1000):
        optimizer.zero_grad()
        loss = likelihood.loss(network(X), target)
        loss.mean().backward()
        optimizer.step()
    assert torch.isfinite(loss).all()
    with torch.no_grad():
        output = network(X)
        assert torch.isfinite(output).all()
        assert torch.isfinite(likelihood.negative_log_likelihood(output, target)).all()
        predictive = likelihood.predictive(output.double())
        if likelihood.task == "classification":
            assert (predictive.logits.argmax(-1) == target).all()
        else:
            assert torch.isfinite(predictive.variance).all() and (predictive.variance > 0).all()
            np.testing.assert_allclose(predictive.mean.numpy(), y, atol=1.0)


def test_a_large_count_or_a_constant_target():
    likelihood = Poisson().fit(np.zeros((5, 1)))
    assert likelihood.scale_ == 1
    for likelihood in (Laplace(), StudentT(), Quantile(), MixtureOfGaussians()):
        likelihood.fit(np.full((5, 1), 1e6))
        assert (likelihood.encode(np.full((2, 1), 1e6)) == 0).all()
        assert likelihood.scale_ == 1


# -- in estimators ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "posterior",
    [
        MCDropout(4),
        DeepEnsemble(2),
        LastLayerLaplace(n_draws=4),
        SGMCMC(n_cycles=1, n_draws_per_cycle=2, n_epochs=4),
        Variational(n_draws=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("likelihood", all_likelihoods(), ids=str)
def test_every_posterior(likelihood, posterior, untouched_globals):
    X, y = task_data(likelihood)
    before = repr(likelihood), dict(vars(likelihood))
    options = {"posterior": posterior, "max_epochs": 3, "random_state": 0}
    model = fit_or_skip(estimator_with(likelihood, **options), X, y)
    assert (repr(likelihood), vars(likelihood)) == before
    total, aleatoric, epistemic = model.predict_uncertainty(X, kind="all")
    np.testing.assert_allclose(total, aleatoric + epistemic, rtol=1e-9)
    assert (epistemic >= 0).all() and (aleatoric > 0).all() and epistemic.max() > 0
    again = estimator_with(likelihood, **options).fit(X, y)
    assert np.array_equal(again.predict_uncertainty(X), total)
    loaded = pickle.loads(pickle.dumps(model))
    assert np.array_equal(loaded.predict_uncertainty(X), total)
    shuffled = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(model.predict_uncertainty(X[shuffled]), total[shuffled])
    np.testing.assert_allclose(model.predict_uncertainty(X[:1]), total[:1], rtol=1e-5)


@pytest.mark.parametrize("likelihood", all_likelihoods(), ids=str)
def test_early_stopping_monitors_the_likelihood(likelihood):
    X, y = task_data(likelihood, n_rows=400)
    model = estimator_with(
        likelihood, posterior=DeepEnsemble(2), max_epochs=40, lr=0.003, early_stopping=True,
        n_iter_no_change=3, random_state=0,
    ).fit(X, y)  # fmt: skip
    losses = [row["valid_loss"] for row in model.history_]
    assert np.isfinite(losses).all() and min(losses) < losses[0]


@pytest.mark.parametrize("likelihood", all_likelihoods(), ids=str)
def test_training_goes_on(likelihood):
    X, y = task_data(likelihood)
    model = estimator_with(likelihood, posterior=PointEstimate(), max_epochs=5, random_state=0)
    for _ in range(3):
        model.partial_fit(X, y)
    assert model.n_iter_ == 3 and np.isfinite(model.predict_uncertainty(X)).all()
    learnt = {n: v for n, v in vars(model.likelihood_).items() if isinstance(v, np.ndarray)}
    model.set_params(warm_start=True).fit(X, y)
    for name in {"location_", "scale_"} & set(learnt):
        assert np.array_equal(learnt[name], getattr(model.likelihood_, name))
