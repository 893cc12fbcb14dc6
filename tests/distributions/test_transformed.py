"""Distributions of y = forward(z): against SciPy, falling maps, ranges."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal
from torch.nn.functional import softplus

from skuq._distributions._mixture import (
    mixture_cdf,
    mixture_crps,
    mixture_log_prob,
    mixture_quantile,
)
from skuq._distributions._transformed import Transformed

MEAN, STD = np.array([[0.3, -1.0], [0.8, -1.5]]), np.array([[0.5, 0.2], [0.3, 0.4]])


def normal(mean=MEAN, std=STD):
    """Two draws, two rows, one target."""
    return Normal(torch.tensor(mean)[..., None], torch.tensor(std)[..., None])


def at(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


# y = exp(z), and y = 4 exp(−z), which falls: lognormal both.
LOGNORMAL = {
    "exp": (torch.exp, torch.log, stats.lognorm(STD, scale=np.exp(MEAN))),
    "falling": (
        lambda z: 4 * torch.exp(-z),
        lambda y: (4 / y).log(),
        stats.lognorm(STD, scale=4 * np.exp(-MEAN)),
    ),
}


@pytest.mark.parametrize("name", LOGNORMAL)
def test_lognormal(name):
    forward, inverse, theirs = LOGNORMAL[name]
    ours = Transformed(normal(), forward, inverse)
    y = np.array([1.7, 0.9])
    np.testing.assert_allclose(ours.mean[..., 0].numpy(), theirs.mean(), rtol=1e-6)
    np.testing.assert_allclose(ours.variance[..., 0].numpy(), theirs.var(), rtol=1e-4)
    np.testing.assert_allclose(
        ours.cdf(at(*y))[..., 0].numpy(), theirs.cdf(y), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(ours.log_prob(at(*y))[..., 0].numpy(), theirs.logpdf(y), rtol=1e-7)
    level = torch.full((2, 2, 1), 0.2, dtype=torch.float64)
    np.testing.assert_allclose(ours.icdf(level)[..., 0].numpy(), theirs.ppf(0.2), rtol=1e-9)
    # The mixture of the draws.
    below = theirs.cdf(y).mean(0)
    np.testing.assert_allclose(
        mixture_cdf(ours, at(*y))[:, 0].numpy(), below, rtol=1e-9, atol=1e-15
    )
    density = np.log(theirs.pdf(y).mean(0))
    np.testing.assert_allclose(mixture_log_prob(ours, at(*y)).numpy(), density, rtol=1e-6)
    for q in (0.01, 0.5, 0.9):
        found = mixture_quantile(ours, q)[:, 0].numpy()
        np.testing.assert_allclose(theirs.cdf(found).mean(0), q, rtol=1e-7)
    grid = np.linspace(0, 200, 1_000_001)[:, None]
    for row in range(2):
        law = stats.lognorm(STD[:, row], scale=theirs.kwds["scale"][:, row])
        exact = np.trapezoid((law.cdf(grid).mean(1) - (y[row] <= grid[:, 0])) ** 2, grid[:, 0])
        assert float(mixture_crps(ours, at(*y))[row]) == pytest.approx(exact, rel=1e-3)


def test_nothing_lies_outside_of_the_values_of_the_map():
    for sign in (1, -1):
        ours = Transformed(normal(), lambda z, s=sign: s * z.exp(), lambda y, s=sign: (s * y).log())
        y = at(-sign * 0.5, 0.0)
        assert (mixture_log_prob(ours, y) == -np.inf).all()
        assert (mixture_cdf(ours, y)[:, 0] == (0 if sign > 0 else 1)).all()


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_whether_y_is_bounded(size):
    """In units of the spread of z: 1000 deviations away, softplus of little z is still linear."""
    inverse_softplus = lambda y: y + (-torch.expm1(-y)).log()
    base = normal(size * np.array([[0.0], [0.1]]), size * np.ones((2, 1)))
    assert Transformed(base, softplus, inverse_softplus).is_bounded() == (size > 1e-6)
    straight = Transformed(base, lambda z: 3 - 2 * z, lambda y: (3 - y) / 2)
    assert not straight.is_bounded()
    assert not Transformed(
        base, lambda z: torch.sinh(z / size), lambda y: size * y.arcsinh()
    ).is_bounded()
    for forward in (lambda z: torch.exp(z / size), lambda z: -torch.exp(-z / size)):
        inverse = lambda y: y.abs().log() * y.sign() * size
        assert Transformed(base, forward, inverse).is_bounded()
