"""The Fisher information of every likelihood that has one, against its definition."""

import numpy as np
import pytest
import torch

from skuq import TorchClassifier
from skuq.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    Likelihood,
    MixtureOfGaussians,
    Poisson,
    Quantile,
    StochasticLogits,
    StudentT,
    UncertaintyAware,
)
from skuq.posteriors import LastLayerLaplace

N_CLASSES, N_ROWS = 4, 3


def outputs(likelihood, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (N_ROWS, likelihood.n_outputs_)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_definition(likelihood, output, targets, log_weights):
    """Σ_t w_t g_t g_tᵀ, for targets (n_points, n_rows, ...) and log weights (n_points, n_rows)."""

    def gradients(target):
        given = output.clone().requires_grad_()
        loss = likelihood.negative_log_likelihood(given, target)
        return torch.autograd.grad(loss.sum(), given)[0]

    total = 0
    for target, log_weight in zip(targets, log_weights):
        g = gradients(target)
        total = total + log_weight.exp()[:, None, None] * g[:, :, None] * g[:, None, :]
    return total


@pytest.mark.parametrize(
    "likelihood",
    [
        Categorical(),
        Categorical(label_smoothing=0.2),
        UncertaintyAware(),
        UncertaintyAware(link="softmax"),
        StochasticLogits(n_samples=4),
    ],
    ids=str,
)
def test_of_classes(likelihood):
    y = np.arange(N_CLASSES)
    likelihood.fit(y, n_classes=N_CLASSES, seed=0)
    output = outputs(likelihood)
    targets = torch.arange(N_CLASSES)[:, None].expand(N_CLASSES, N_ROWS)
    log_proba = likelihood.predictive(output).logits.T
    expected = by_definition(likelihood, output, targets, log_proba)
    torch.testing.assert_close(likelihood.fisher(output), expected, rtol=1e-9, atol=1e-12)
    assert not likelihood.fisher(output).requires_grad


@pytest.mark.parametrize("n_labels", [None, 3])
def test_of_labels(n_labels):
    y = np.zeros(4) if n_labels is None else np.zeros((4, n_labels))
    likelihood = Bernoulli().fit(y, n_classes=2)
    output = outputs(likelihood)
    p = output.sigmoid()
    expected = torch.diag_embed(p * (1 - p))
    torch.testing.assert_close(likelihood.fisher(output), expected)


def test_missing_labels_bring_none():
    likelihood = Bernoulli("ignore").fit(np.zeros((4, 2)), n_classes=2)
    output = outputs(likelihood)
    target = torch.tensor([[0.0, np.nan], [1.0, 1.0], [np.nan, np.nan]])
    known = torch.diag_embed((~target.isnan()).double())
    expected = likelihood.fisher(output) * known
    torch.testing.assert_close(likelihood.information(output, target), expected)
    classes = Categorical().fit(np.arange(3), n_classes=3)
    output = outputs(classes)
    found = classes.information(output, torch.arange(3))
    assert torch.equal(found, classes.fisher(output))


LOCATION_SCALE = [
    Gaussian(),
    Gaussian(beta=0.0, min_variance=0.3),
    Gaussian(heteroscedastic=False),
    Laplace(min_scale=0.2),
    Laplace(heteroscedastic=False),
    StudentT(),
    StudentT(df=3.0, min_scale=0.4),
]


@pytest.mark.parametrize("likelihood", LOCATION_SCALE, ids=str)
def test_of_real_targets(likelihood):
    """One target at a time, by integrating over its quantiles."""
    rng = np.random.default_rng(0)
    likelihood.fit(5 + 3 * rng.normal(size=(50, 1)))
    for name in ("noise_variance_", "noise_scale_"):
        if hasattr(likelihood, name):
            setattr(likelihood, name, np.array([0.7]))
    output = outputs(likelihood)
    n_points = 4000
    levels = (torch.arange(n_points, dtype=torch.float64) + 0.5) / n_points
    y = likelihood.predictive(output).icdf(levels[:, None, None].expand(-1, N_ROWS, 1))
    targets = (y - torch.tensor(likelihood.location_)) / torch.tensor(likelihood.scale_)
    weights = torch.full((n_points, N_ROWS), -np.log(n_points))
    expected = by_definition(likelihood, output, targets, weights)
    found = likelihood.fisher(output)
    torch.testing.assert_close(found, expected, rtol=3e-3, atol=3e-3)


def test_of_counts():
    likelihood = Poisson(min_rate=0.2).fit(np.array([[1.0], [3.0], [5.0]]))
    output = outputs(likelihood)
    counts = torch.arange(80, dtype=torch.float64)
    targets = (counts / torch.tensor(likelihood.scale_))[:, None, None].expand(-1, N_ROWS, 1)
    log_mass = likelihood.predictive(output).log_prob(counts[:, None, None])[..., 0]
    expected = by_definition(likelihood, output, targets, log_mass)
    torch.testing.assert_close(likelihood.fisher(output), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("likelihood", [*LOCATION_SCALE, Poisson()], ids=str)
def test_several_targets_are_independent(likelihood):
    y = 1.0 + np.arange(12.0).reshape(6, 2)
    single = type(likelihood)(**likelihood.get_params()).fit(y[:, :1])
    likelihood.fit(y)
    output = outputs(likelihood)
    first = output[:, ::2]
    found = likelihood.fisher(output)
    expected = single.fisher(first) if not isinstance(likelihood, Poisson) else None
    if expected is not None:
        torch.testing.assert_close(found[:, ::2, ::2], expected)
    assert (found == torch.diag_embed(found.diagonal(dim1=1, dim2=2))).all()


def test_beyond_the_clamp_there_is_no_information():
    for likelihood in (Gaussian(), Laplace(), StudentT()):
        likelihood.fit(np.array([[0.0], [1.0]]))
        output = torch.tensor([[0.0, -31.0], [0.0, 187.0]], dtype=torch.float64)
        assert (likelihood.fisher(output)[:, 1, 1] == 0).all()
    counts = Poisson().fit(np.array([[0.0], [1.0]]))
    assert counts.fisher(torch.tensor([[187.0]])) == 0


@pytest.mark.parametrize(
    ("likelihood", "why"),
    [
        (Quantile(), "not a negative log-likelihood"),
        (MixtureOfGaussians(), "no Fisher information in closed form"),
        (StudentT(df="free"), "fix df"),
    ],
    ids=str,
)
def test_who_has_none_says_why(likelihood, why):
    likelihood.fit(np.array([[0.0], [1.0]]))
    with pytest.raises(TypeError, match=why):
        likelihood.fisher(outputs(likelihood))


class OwnClasses(Categorical):
    """As third parties write it: without a Fisher information of its own."""

    fisher = Likelihood.fisher


@pytest.mark.parametrize(
    "likelihood", [Categorical(), OwnClasses(), StochasticLogits(n_samples=4), Bernoulli()], ids=str
)
def test_the_prior_correction_does_not_change_it(likelihood):
    """It belongs to the loss that trained the network."""
    n_classes = 2 if isinstance(likelihood, Bernoulli) else N_CLASSES
    likelihood.fit(np.arange(n_classes), n_classes=n_classes, seed=0)
    output = outputs(likelihood)
    before, proba = likelihood.fisher(output), likelihood.predictive(output).probs
    likelihood.correct_prior(np.linspace(0.2, 5, n_classes))
    assert torch.equal(likelihood.fisher(output), before)
    assert (likelihood.predictive(output).probs - proba).abs().max() > 0.05


def test_draws_do_not_depend_on_the_prior_correction(blobs):
    X, y = blobs
    weights = {label: 1.0 + 4 * label for label in np.unique(y)}
    options = {"likelihood": StochasticLogits(), "class_weight": weights, "max_epochs": 2}
    one, two = (
        TorchClassifier(
            posterior=LastLayerLaplace(n_draws=4), prior_correction=c, random_state=0, **options
        ).fit(X, y)
        for c in (False, True)
    )
    a, b = (fitted._engine.draws.tensors(0, 4) for fitted in (one, two))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert np.abs(one.predict_proba(X) - two.predict_proba(X)).max() > 0.01
