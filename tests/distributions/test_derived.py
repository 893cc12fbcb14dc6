"""Distributions made from others, also over the integers."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from skuq._distributions._derived import Affine, Recalibrated, affine, recalibrated
from skuq._distributions._families import (
    MixtureOfNormals,
    PoissonCounts,
    QuantileKnots,
    StudentTQuantiles,
)
from skuq._distributions._mixture import (
    mixture_cdf,
    mixture_crps,
    mixture_log_prob,
    mixture_quantile,
)


def draws_of(kind):
    """Three draws, two rows, one target."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(3, 2, 1, *shape, dtype=torch.float64, generator=random)

    if kind == "t":
        return StudentTQuantiles(3 + normal().exp(), 3 * normal(), normal().exp())
    if kind == "laplace":
        return torch.distributions.Laplace(3 * normal(), normal().exp())
    if kind == "mixture":
        return MixtureOfNormals(normal(2), 3 * normal(2), normal(2).exp())
    if kind == "knots":
        levels = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
        return QuantileKnots(levels, (3 * normal(4)).sort(-1).values)
    return PoissonCounts((1 + normal()).exp() * 3)


def mixture_of(weights, means, stds):
    """One element, and its density and distribution function by hand."""
    parts = stats.norm(np.array(means), np.array(stds))
    logits, mean, std = (torch.tensor(v, dtype=torch.float64) for v in (weights, means, stds))
    ours = MixtureOfNormals(logits.log(), mean, std)
    share = np.array(weights) / np.sum(weights)
    return ours, lambda x: share @ parts.pdf(x), lambda x: share @ parts.cdf(x)


def test_mixture_of_normals_is_scipys():
    ours, density, below = mixture_of([1.0, 2.0, 5.0], [-1.0, 0.0, 4.0], [0.5, 0.1, 3.0])
    for x in (-3.0, -0.9, 0.05, 2.0, 9.0):
        at = torch.tensor(x, dtype=torch.float64)
        assert float(ours.density(at)) == pytest.approx(density(x), rel=1e-12)
        assert float(ours.log_prob(at).exp()) == pytest.approx(density(x), rel=1e-12)
        assert float(ours.cdf(at)) == pytest.approx(below(x), rel=1e-12)
    for level in (1e-6, 0.2, 0.7, 1 - 1e-6):
        x = float(ours.icdf(torch.tensor(level, dtype=torch.float64)))
        assert below(x) == pytest.approx(level, rel=1e-9)


def test_quantile_knots_by_hand():
    """Uniform between the quantiles; tails that go on as those of a Laplace distribution."""
    laplace = stats.laplace(2.0, 1.5)
    levels = np.array([0.02, 0.2, 0.5, 0.7, 0.95])
    q = laplace.ppf(levels)
    ours = QuantileKnots(torch.tensor(levels), torch.tensor(q))
    x = np.linspace(-6, 12, 1801)
    inside = (x >= q[0]) & (x <= q[-1])
    below = np.where(inside, np.interp(x, q, levels), laplace.cdf(x))
    np.testing.assert_allclose(ours.cdf(torch.tensor(x)).numpy(), below, rtol=1e-9)
    density = np.where(inside, 0.0, laplace.pdf(x))
    for a, b, mass in zip(q, q[1:], np.diff(levels)):
        density[(x >= a) & (x < b)] = mass / (b - a)
    np.testing.assert_allclose(ours.log_prob(torch.tensor(x)).exp().numpy(), density, rtol=1e-9)
    p = np.array([1e-6, 0.01, 0.02, 0.1, 0.5, 0.9, 0.95, 0.99, 1 - 1e-6])
    found = ours.icdf(torch.tensor(p)).numpy()
    np.testing.assert_allclose(ours.cdf(torch.tensor(found)).numpy(), p, rtol=1e-9)
    np.testing.assert_allclose(found[[0, 1, 2, 4, 6, 7, 8]], laplace.ppf(p)[[0, 1, 2, 4, 6, 7, 8]])
    fine = np.linspace(-40, 44, 840_001)
    weight = ours.log_prob(torch.tensor(fine)).exp().numpy()
    mean = np.trapezoid(fine * weight, fine)
    assert float(ours.mean) == pytest.approx(mean, abs=1e-4)
    variance = np.trapezoid((fine - mean) ** 2 * weight, fine)
    assert float(ours.variance) == pytest.approx(variance, rel=1e-4)


@pytest.mark.parametrize("levels", [(0.1, 0.3), (0.6, 0.9), (0.2, 0.8)])
def test_quantile_knots_on_one_side_or_two(levels):
    """The tails go through the knot nearest to the median, or the next."""
    ours = QuantileKnots(torch.tensor(levels).double(), torch.tensor([-1.0, 2.0]).double())
    lower = 3 / np.log(levels[1] / levels[0])
    upper = 3 / np.log((1 - levels[0]) / (1 - levels[1]))
    assert (float(ours.lower), float(ours.upper)) == pytest.approx((lower, upper), rel=1e-6)
    alike = QuantileKnots(torch.tensor(levels).double(), torch.tensor([5.0, 5.0]).double())
    assert float(alike.lower) == float(alike.upper) == 5 * np.finfo(float).eps
    at = alike.icdf(torch.tensor([0.01, 0.5, 0.99]).double())
    np.testing.assert_allclose(at.numpy(), 5, rtol=1e-14)


KINDS = ["t", "laplace", "mixture", "knots", "poisson"]
CONTINUOUS = KINDS[:-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.001, 0.3, 0.5, 0.99])
def test_mixture_quantiles(kind, level):
    components = draws_of(kind)
    q = mixture_quantile(components, level)
    at = mixture_cdf(components, q)
    if kind == "poisson":
        assert (at >= level).all() and (mixture_cdf(components, q - 1) < level).all()
    else:
        torch.testing.assert_close(at, torch.full_like(at, level), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_crps_is_the_integral(kind):
    components = draws_of(kind)
    y = torch.tensor([[0.4], [-2.0]], dtype=torch.float64)
    x = torch.linspace(-8, 8, 40_001, dtype=torch.float64).sinh() * 2
    below = torch.cat(
        [components.cdf(v[:, None, None, None].expand(-1, 1, 2, 1)).mean(1) for v in x.split(500)]
    )
    integrand = (below - (y <= x[:, None, None]).double()).square()
    expected = torch.trapezoid(integrand, x, dim=0)
    torch.testing.assert_close(mixture_crps(components, y), expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_affine(kind):
    base = draws_of(kind)
    location = torch.tensor([[5.0], [-3.0]], dtype=torch.float64)
    scale = torch.tensor([[2.0], [0.5]], dtype=torch.float64)
    scaled, y = affine(base, location, scale), torch.tensor([[9.0], [-2.0]]).double()
    assert isinstance(scaled, Affine)
    torch.testing.assert_close(scaled.mean, location + scale * base.mean)
    torch.testing.assert_close(scaled.stddev, scale * base.stddev)
    torch.testing.assert_close(
        mixture_quantile(scaled, 0.8), location + scale * mixture_quantile(base, 0.8)
    )
    z = (y - location) / scale
    torch.testing.assert_close(mixture_cdf(scaled, y), mixture_cdf(base, z))
    torch.testing.assert_close(mixture_crps(scaled, y), scale * mixture_crps(base, z))
    assert torch.equal(scaled.cdf(y), base.cdf(z))
    level = torch.tensor(0.3).double().expand(base.batch_shape)
    torch.testing.assert_close(scaled.icdf(level), location + scale * base.icdf(level))
    jacobian = 0 if kind == "poisson" else scale.log().sum(-1)
    torch.testing.assert_close(mixture_log_prob(scaled, y), mixture_log_prob(base, z) - jacobian)


@pytest.mark.parametrize("rates", [(0.3,), (2.0, 9.0), (300.0, 20.0), (40_000.0, 41_000.0)])
@pytest.mark.parametrize("where", [0.0, 0.2, 0.9, 3.0])
def test_crps_of_counts(rates, where):
    """Σ_k (F(k) − 1{y ≤ k})², by brute force."""
    rates = np.array(rates)
    y = np.round(rates[0] * where)
    k = np.arange(int(5 * rates.max()) + 60)
    below = stats.poisson(rates[:, None]).cdf(k).mean(0)
    expected = ((below - (y <= k)) ** 2).sum()
    components = PoissonCounts(torch.tensor(rates)[:, None, None])
    found = mixture_crps(components, torch.tensor([[y]], dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    # Between integers it is linear in y.
    near = [float(mixture_crps(components, torch.tensor([[y + d]]).double())) for d in (0, 0.25, 1)]
    assert near[1] == pytest.approx(0.75 * near[0] + 0.25 * near[2], rel=1e-9)


def test_poisson_is_scipys():
    rate = np.array([1e-6, 0.5, 7.3, 1e4])
    ours, theirs = PoissonCounts(torch.tensor(rate)), stats.poisson(rate)
    for k in (-1.0, 0.0, 3.0, 1e4):
        found = ours.cdf(torch.full((4,), k, dtype=torch.float64))
        np.testing.assert_allclose(found.numpy(), theirs.cdf(k), rtol=1e-9, atol=1e-15)
    for q in (1e-9, 0.1, 0.5, 0.999999):
        found = ours.icdf(torch.full((4,), q, dtype=torch.float64))
        assert np.array_equal(found.numpy(), theirs.ppf(q))
    # An integer that rounding has made less is that integer.
    assert torch.equal(ours.cdf(torch.tensor(3 - 1e-12)), ours.cdf(torch.tensor(3.0)))


def test_recalibrated_counts():
    """R(F(y)) over the integers: probabilities sum to one, moments are theirs."""
    components = PoissonCounts(
        torch.tensor([[[2.0], [30.0]], [[3.0], [33.0]]], dtype=torch.float64)
    )
    knots = [np.array([0.0, 0.3, 0.8, 1.0])], [np.array([0.0, 0.2, 0.9, 1.0])]
    one = recalibrated(components, *knots)
    assert isinstance(one, Recalibrated) and one.is_discrete
    k = torch.arange(150.0, dtype=torch.float64)
    p = torch.stack([one.log_prob(torch.full((2, 1), v)).exp() for v in k.tolist()])[:, 0, :, 0]
    torch.testing.assert_close(p.sum(0), torch.ones(2, dtype=torch.float64))
    mean = (k[:, None] * p).sum(0)
    torch.testing.assert_close(one.mean[0, :, 0], mean, rtol=5e-3, atol=0)
    std = ((k[:, None] - mean).square() * p).sum(0).sqrt()
    torch.testing.assert_close(one.stddev[0, :, 0], std, rtol=2e-2, atol=0)
    level = torch.tensor([0.1, 0.55, 0.97])[:, None, None, None].double()
    level = level.expand(3, 1, 2, 1)  # of one distribution in place of the draws
    least, before = one.icdf(level), one.icdf(level) - 1
    for at in range(3):
        assert (one.cdf(least[at, 0]) >= level[at]).all() and least.shape == (3, 1, 2, 1)
        assert (one.cdf(before[at, 0]) < level[at]).all()
    scaled = recalibrated(affine(components, torch.zeros(1), torch.ones(1) * 2), *knots)
    torch.testing.assert_close(scaled.mean, 2 * one.mean)
    assert torch.equal(mixture_quantile(scaled, 0.7), 2 * mixture_quantile(one, 0.7))


def test_draws_that_lie_apart():
    """Nodes of integrals lie where each draw has its mass, not in between."""
    mean = torch.tensor([-5.0, 5.0], dtype=torch.float64)[:, None, None]
    two = torch.distributions.Normal(mean, torch.full_like(mean, 0.1))
    identity = [np.array([0.0, 1.0])], [np.array([0.0, 1.0])]
    one = recalibrated(two, *identity)
    assert float(one.mean) == pytest.approx(0, abs=1e-6)
    assert float(one.stddev) == pytest.approx(np.sqrt(25 + 0.01), rel=1e-3)
    for y in (-5.0, 0.0, 4.9, 7.0):
        at = torch.tensor([[y]], dtype=torch.float64)
        exact = float(mixture_crps(two, at))  # normal: in closed form
        assert float(mixture_crps(one, at)) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("df", [2.1, 3.0, 30.0])
@pytest.mark.parametrize("y", [-4.0, 0.0, 0.7, 50.0])
def test_crps_of_students_t(df, y):
    """A. Jordan, F. Krüger, S. Lerch, "Evaluating Probabilistic Forecasts with scoringRules"."""
    t, beta = stats.t(df), special.beta
    last = 2 * np.sqrt(df) / (df - 1) * beta(0.5, df - 0.5) / beta(0.5, df / 2) ** 2
    expected = y * (2 * t.cdf(y) - 1) + 2 * t.pdf(y) * (df + y**2) / (df - 1) - last
    at = torch.tensor([[y]], dtype=torch.float64)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for n_draws in (1, 20):  # alike, so the mixture is the same
        parts = (part.expand(n_draws, 1, 1) for part in (df * one, 0 * one, one))
        assert float(mixture_crps(StudentTQuantiles(*parts), at)) == pytest.approx(
            expected, rel=1e-4
        )
