"""Quantiles of a mixture, not of a normal with its moments."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch.distributions import Normal

from skuq._distributions._mixture import crps_on, mixture_quantile


@pytest.mark.parametrize("q", [1e-6, 0.05, 0.5, 0.731, 0.95, 1 - 1e-6])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 100.0, 1e6])
def test_against_a_scalar_solver(q, spread):
    random = np.random.default_rng(0)
    mean, std = spread * random.normal(size=(6, 20)), random.lognormal(size=(6, 20))
    found = mixture_quantile(Normal(torch.tensor(mean), torch.tensor(std)), q).numpy()
    for column in range(20):
        m, s = mean[:, column], std[:, column]
        ends = norm.ppf(q, m, s)
        if np.ptp(ends) < 1e-12:
            expected = ends[0]
        else:
            expected = brentq(
                lambda x, m, s: norm.cdf(x, m, s).mean() - q,
                ends.min(),
                ends.max(),
                args=(m, s),
                xtol=1e-13,
            )
        reached = norm.cdf(found[column], m, s).mean()
        assert reached == pytest.approx(q, rel=1e-6) or found[column] == pytest.approx(
            expected, abs=1e-9 * (1 + abs(expected))
        )


def test_a_gap_is_crossed_to_a_component():
    two = Normal(torch.tensor([[-10.0], [10.0]]).double(), torch.ones(2, 1).double())
    assert float(mixture_quantile(two, 0.25)) == pytest.approx(-10, abs=1e-6)
    assert float(mixture_quantile(two, 0.975)) == pytest.approx(10 + norm.ppf(0.95), abs=1e-6)


def test_one_component_is_its_own_quantile():
    one = Normal(torch.tensor([[3.0]]).double(), torch.tensor([[2.0]]).double())
    assert float(mixture_quantile(one, 0.9)) == pytest.approx(norm.ppf(0.9, 3, 2), abs=1e-12)


def test_levels_are_ordered_and_rows_independent():
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(9, 50, dtype=torch.float64, generator=random) * 5
    std = torch.rand(9, 50, dtype=torch.float64, generator=random) + 0.01
    levels = [mixture_quantile(Normal(mean, std), q) for q in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert all((a < b).all() for a, b in itertools.pairwise(levels))
    alone = mixture_quantile(Normal(mean[:, 7:8], std[:, 7:8]), 0.3)
    torch.testing.assert_close(alone, levels[1][7:8], rtol=1e-12, atol=0)


@pytest.mark.parametrize("ratio", [1e-13, 1e-9, 1e9, 1e13])
@pytest.mark.parametrize("q", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_scales_that_are_far_apart(ratio, q):
    std = torch.tensor([[1.0], [ratio]], dtype=torch.float64)
    mean = torch.tensor([[0.3], [0.3]], dtype=torch.float64)
    found = float(mixture_quantile(Normal(mean, std), q))
    # Among numbers near 0.3 the narrow one is a step of a few last bits, from 0.25 to 0.75.
    tolerance = 1e-9 if ratio > 1e-9 else 1e-3
    assert norm.cdf(found, 0.3, std[:, 0].numpy()).mean() == pytest.approx(q, abs=tolerance)


@pytest.mark.parametrize("y", [-1.5, 0.0, 0.1, 0.25, 0.3, 0.6, 0.9, 1.0, 4.0])
def test_crps_of_a_uniform_distribution(y):
    """(y³ + (1 − y)³)/3 inside, and the distance outside: Simpson's rule is exact for squares."""
    nodes = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None].expand(5, 2)
    at = torch.tensor([y, 0.5], dtype=torch.float64)
    found = crps_on(nodes, lambda x: x.clamp(0, 1), at).tolist()
    inside = min(max(y, 0), 1)
    expected = (inside**3 + (1 - inside) ** 3) / 3 + abs(y - inside)
    assert found == pytest.approx([expected, 1 / 12], rel=1e-12)
