"""Networks in the units of y, or in given ones: the size of y changes nothing but the unit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from skuq.likelihoods import Gaussian, Laplace, MixtureOfGaussians, Poisson, Quantile, StudentT

SCALES = [1e-8, 1e-4, 1e3, 1e8]
RANDOM = np.random.default_rng(0)
Y = RANDOM.normal(1.0, 2.0, size=(40, 1))
PAIR = (0.0, 3.0)  # the output of the network for c · y is c times that for y
# Logarithms of noise, over that of y: far below the floor, usual, and large.
RAW = torch.linspace(-50.0, 9.0, len(Y), dtype=torch.float64)
LIKELIHOODS = [
    Gaussian(), Gaussian(heteroscedastic=False), Laplace(), Laplace(heteroscedastic=False),
    StudentT(), StudentT("free"), MixtureOfGaussians(2), Quantile(),
]  # fmt: skip


def outputs(likelihood, c, power=1):
    """For c = 1, and of the same network for c · y."""
    n, log = len(Y), np.log(c)
    means = torch.as_tensor(Y[:, 0] + np.random.default_rng(1).normal(size=n))
    if isinstance(likelihood, Quantile):
        gaps = torch.linspace(-0.001, 0.001, n, dtype=torch.float64)  # some are too close
        return torch.stack([c * (means + k * gaps) for k in range(5)], 1)
    if isinstance(likelihood, MixtureOfGaussians):
        parts = [torch.zeros(n), torch.ones(n)]
        # The constants that separate components have the units of the network.
        parts += [c * (means + k) - k for k in (-1, 1)]
        return torch.stack([*parts, 2 * log + RAW, 2 * log + RAW / 2], 1)
    if not getattr(likelihood, "heteroscedastic", True):
        return c * means[:, None]
    power = 2 if isinstance(likelihood, Gaussian) else 1
    rest = [RAW / 10] if getattr(likelihood, "df", 0) == "free" else []
    return torch.stack([c * means, power * log + RAW, *rest], 1)


def fitted(likelihood, c, standardise):
    likelihood = type(likelihood)(**likelihood.get_params() | {"standardise": standardise})
    likelihood.fit(c * Y)
    output, target = outputs(likelihood, c), likelihood.encode(c * Y)

    def evaluate(reduction, *aligned):
        return reduction(output[None], *map(torch.as_tensor, aligned)).numpy()

    likelihood.finish(evaluate, target, None)
    return likelihood, output, torch.as_tensor(target)


@pytest.mark.parametrize("standardise", [False, PAIR], ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("c", SCALES)
def test_the_size_of_y_is_only_a_unit(likelihood, c, standardise):
    """A network for c · y: log densities fall by log c, and the standard deviation grows by c."""
    one, output, target = fitted(likelihood, 1.0, standardise)
    other, scaled, moved = fitted(likelihood, c, standardise)
    density = one.negative_log_likelihood(output, target)
    found = other.negative_log_likelihood(scaled, moved)
    torch.testing.assert_close(found, density + np.log(c), rtol=1e-5, atol=1e-5)
    std = one.predictive(output).stddev
    torch.testing.assert_close(other.predictive(scaled).stddev / c, std, rtol=1e-6, atol=0)
    mean = one.predictive(output).mean
    torch.testing.assert_close(other.predictive(scaled).mean / c, mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("likelihood", [Gaussian(), Laplace(), StudentT()], ids=str)
@pytest.mark.parametrize("c", SCALES)
def test_the_information_has_the_unit_of_y(likelihood, c):
    """In locations it falls by c², in logarithms of the noise it stays."""
    one, output, _ = fitted(likelihood, 1.0, False)
    other, scaled, _ = fitted(likelihood, c, False)
    units = torch.tensor([c, 1.0], dtype=torch.float64)
    moved = other.fisher(scaled) * units[:, None] * units
    torch.testing.assert_close(moved, one.fisher(output), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("c", SCALES)
def test_a_normal_in_units_of_y_is_the_one_that_the_network_gives(c):
    gaussian = Gaussian(standardise=False).fit(c * Y)
    output = torch.tensor([[3 * c, 2 * np.log(0.5 * c)]], dtype=torch.float64)
    y = torch.tensor([[2.8 * c]], dtype=torch.float64)
    std = c * np.sqrt(0.25 + 1e-6 * Y.var())
    expected = -stats.norm.logpdf(2.8 * c, 3 * c, std)
    assert float(gaussian.negative_log_likelihood(output, y)) == pytest.approx(expected, abs=1e-9)
    assert float(gaussian.predictive(output).stddev) == pytest.approx(std, rel=1e-12)


def test_floors_are_relative_to_each_target():
    y = Y * [1e-4, 1.0, 1e5]
    vanishing = torch.tensor([[0.0] * 3 + [-100.0] * 3], dtype=torch.float64)
    least = Gaussian(min_variance=0.01, standardise=False).fit(y).predictive(vanishing).stddev
    np.testing.assert_allclose(least[0], 0.1 * y.std(0), rtol=1e-6)
    b = Laplace(min_scale=0.01, standardise=False).fit(y).predictive(vanishing).scale
    np.testing.assert_allclose(b[0], 0.01 * y.std(0), rtol=1e-6)
    equal = torch.zeros(1, 6, dtype=torch.float64)
    quantile = Quantile((0.25, 0.75), min_scale=0.1, standardise=False).fit(y).predictive(equal)
    apart = quantile.icdf(torch.tensor(0.75)) - quantile.icdf(torch.tensor(0.25))
    np.testing.assert_allclose(apart[0], 0.05 * y.std(0), rtol=1e-6)
    one = Gaussian(False, min_variance=0.01, standardise=False).fit(y)
    one.finish(lambda r, *a: r(torch.as_tensor(y)[None], *map(torch.as_tensor, a)).numpy(), y, None)
    np.testing.assert_allclose(one.noise_variance_, 0.01 * y.var(0), rtol=1e-6)


@pytest.mark.parametrize("c", SCALES)
def test_rates_of_y_are_those_in_units_of_the_mean(c):
    """Poisson: `standardise` moves logarithms of rates by that of the mean, and nothing else."""
    counts = c * np.array([[1.0], [3.0], [8.0]])
    relative = Poisson().fit(counts)
    own = Poisson(standardise=False).fit(counts)
    output = torch.tensor([[-40.0], [-10.0], [1.0]], dtype=torch.float64)
    moved = output + np.log(4 * c)
    rate = relative.predictive(output).rate
    torch.testing.assert_close(own.predictive(moved).rate, rate, rtol=1e-6, atol=0)
    torch.testing.assert_close(own.fisher(moved), relative.fisher(output), rtol=1e-6, atol=0)
    large = torch.tensor([[20.0]], dtype=torch.float64)
    found = float(own.predictive(large + np.log(4 * c)).rate)
    assert found == pytest.approx(4 * c * np.exp(20), rel=1e-6)


@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, Poisson()], ids=str)
def test_what_was_fitted_before_keeps_its_numbers(likelihood):
    """Files and pickles of then lack the unit; their floors and clamps are absolute."""
    y = 1e-4 * np.abs(Y)
    likelihood = type(likelihood)(**likelihood.get_params() | {"standardise": False}).fit(y)
    name = "_rate_unit" if isinstance(likelihood, Poisson) else "_noise_unit"
    now = copy.deepcopy(likelihood)
    del likelihood.__dict__[name]
    before = pickle.loads(pickle.dumps(likelihood))
    output = torch.full((1, likelihood.n_outputs_), -40.0, dtype=torch.float64)
    found = before.predictive(output).stddev
    least = {Gaussian: np.sqrt(1e-6 + np.exp(-30)), Laplace: np.sqrt(2) * (1e-3 + np.exp(-30))}
    least |= {StudentT: np.sqrt(2) * (1e-3 + np.exp(-30)), Poisson: np.sqrt(1e-6 + np.exp(-30))}
    if getattr(likelihood, "heteroscedastic", True) and type(likelihood) in least:
        if getattr(likelihood, "df", 4.0) != "free":
            assert float(found) == pytest.approx(least[type(likelihood)], rel=1e-9)
            assert float(now.predictive(output).stddev) < 0.1 * float(found)
    torch.testing.assert_close(likelihood.predictive(output).stddev, found, rtol=0, atol=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_standardised_likelihoods_have_no_unit(likelihood):
    likelihood = type(likelihood)(**likelihood.get_params()).fit(Y)
    assert likelihood._noise_unit is None and (likelihood.spread_ == 1).all()
    assert Poisson().fit(np.abs(Y))._rate_unit is None
