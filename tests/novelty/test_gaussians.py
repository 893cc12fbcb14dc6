"""Gaussians against scikit-learn and closed forms; constant features."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from skuq.novelty._gaussians import distances, fit_gaussians, log_densities


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 300)
    mixing = rng.normal(size=(4, 4))
    X = rng.normal(size=(300, 4)) @ mixing + rng.normal(size=(3, 4))[codes] * 3
    return X * [1.0, 100.0, 0.1, 1.0] + [0, 5e3, 0, 1], codes


@pytest.mark.parametrize("tied", [True, False])
def test_distances_and_densities_are_those_of_scipy(data, tied):
    X, codes = data
    fitted = fit_gaussians(X, codes, tied=tied, empirical=True)
    means = [X[codes == c].mean(0) for c in range(3)]
    parts = [X[codes == c] - means[c] for c in range(3)]
    covariances = [p.T @ p / len(p) for p in parts]
    if tied:
        covariances = [sum(p.T @ p for p in parts) / len(X)] * 3
    found, joint = distances(fitted, X), log_densities(fitted, X)
    for c in range(3):
        deviation = X - means[c]
        expected = (deviation @ np.linalg.inv(covariances[c]) * deviation).sum(1)
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-8)
        density = multivariate_normal(means[c], covariances[c]).logpdf(X)
        expected = density + np.log((codes == c).mean())
        np.testing.assert_allclose(joint[:, c], expected, rtol=1e-8)


def test_covariance_is_that_of_ledoit_and_wolf_in_units_of_deviations(data):
    X, codes = data
    fitted = fit_gaussians(X, codes)
    residual = X - fitted.means[codes]
    scale = np.sqrt((residual**2).mean(0))
    estimate = LedoitWolf(assume_centered=True).fit(residual / scale)
    assert estimate.shrinkage_ > 1e-4
    precision = estimate.precision_ / np.outer(scale, scale)
    deviation = X - fitted.means[1]
    expected = (deviation @ precision * deviation).sum(1)
    np.testing.assert_allclose(distances(fitted, X)[:, 1], expected, rtol=1e-8)


@pytest.mark.parametrize("tied", [True, False])
def test_units_and_places_do_not_matter(data, tied):
    X, codes = data
    other = X * [7.0, 1e-5, 300.0, 1.0] + [1e3, -2.0, 0.0, 0.0]
    one, two = (distances(fit_gaussians(rows, codes, tied=tied), rows) for rows in (X, other))
    np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_a_constant_feature_does_not_explode(data, tied, constant):
    X, codes = data
    wide = np.column_stack([X, np.full(len(X), constant)])
    one = fit_gaussians(X, codes, tied=tied)
    two = fit_gaussians(wide, codes, tied=tied)
    # Rows that keep the constant are as far as without it.
    np.testing.assert_allclose(distances(two, wide), distances(one, X), rtol=1e-9)
    # A row that differs by one typical deviation is farther by one unit of squared distance.
    moved = wide.copy()
    residual = X - one.means[codes]
    moved[:, 4] += np.sqrt((residual**2).mean())
    farther = distances(two, moved) - distances(two, wide)
    np.testing.assert_allclose(farther, 1, rtol=1e-6)


def test_a_feature_that_is_constant_in_a_class_varies_as_in_the_others(data):
    X, codes = data
    X = X.copy()
    X[codes == 2, 0] = 4.0
    fitted = fit_gaussians(X, codes, tied=False)
    row = fitted.means[2:3].copy()
    assert distances(fitted, row)[0, 2] == pytest.approx(0, abs=1e-12)
    residual = X[:, 0] - fitted.means[codes, 0]
    row[0, 0] += 2 * np.sqrt((residual**2).mean())
    assert distances(fitted, row)[0, 2] == pytest.approx(4)


def test_rounding_of_float32_counts_as_constant():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    X[:, 1] = 10 * (1 + 1e-8 * rng.normal(size=200))
    fitted = fit_gaussians(X, np.zeros(200, int), network=True)
    near = fitted.means + np.array([0, 1e-4, 0])
    assert distances(fitted, near)[0, 0] < 1e-6


def test_a_feature_of_a_network_that_nearly_never_moves():
    """A ReLU that is off but for one row does not let another one out of all bounds."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 5))
    X[:, 4] = 0
    X[3, 4] = 0.01
    codes = np.zeros(1000, int)
    fitted, free = (fit_gaussians(X, codes, network=network) for network in (True, False))
    row = fitted.means.copy()
    row[0, 4] = 1.0
    typical = np.sqrt((X.std(0) ** 2).mean())
    assert distances(free, row)[0, 0] > 1e6
    scaled = np.diag([*X[:, :4].std(0), 0.1 * typical])
    estimate = LedoitWolf(assume_centered=True).fit((X - X.mean(0)) @ np.linalg.inv(scaled))
    z = (row - X.mean(0)) @ np.linalg.inv(scaled)
    expected = (z @ estimate.precision_ @ z.T)[0, 0]
    assert distances(fitted, row)[0, 0] == pytest.approx(expected)
    assert expected < 1e6


def test_all_features_constant():
    fitted = fit_gaussians(np.ones((5, 2)), np.array([0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(distances(fitted, np.array([[1.0, 3.0]])), [[4.0, 4.0]])


def test_a_class_of_one_row_and_fewer_rows_than_features():
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(7, 20)), np.array([0, 0, 0, 0, 0, 0, 1])
    for tied in (True, False):
        found = distances(fit_gaussians(X, codes, tied=tied), X + 1)
        assert np.isfinite(found).all() and (found > 0).all()


def test_deviations_that_are_equal_but_for_their_sign():
    """Ledoit and Wolf do not shrink these: the identity, of the same trace, is one more row."""
    X = np.tile([[0.0, 0.0], [1.0, 1.0]], (50, 1))
    fitted = fit_gaussians(X, np.zeros(100, dtype=int))
    found = distances(fitted, np.array([[0.0, 0.0], [0.0, 1.0]]))[:, 0]
    # In units of deviations, the covariance is (100 · [[1, 1], [1, 1]] + identity) / 101.
    np.testing.assert_allclose(found, [2 * 101 / 201, 2 * 101], rtol=1e-9)


def test_a_class_of_two_rows():
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(12, 4)), np.array([0] * 10 + [1] * 2)
    found = distances(fit_gaussians(X, codes, tied=False), X)
    assert np.isfinite(found).all()
    assert found[10:, 1].max() < 2  # its own rows are near


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("unit", [1e-170, 1e160])
def test_units_whose_squares_no_number_holds(data, tied, unit):
    X, codes = data
    one, other = (fit_gaussians(X * u, codes, tied=tied) for u in (1.0, unit))
    np.testing.assert_allclose(distances(other, X * unit), distances(one, X), rtol=1e-9)


def test_an_empirical_covariance_without_inverse_is_refused(data):
    X, codes = data
    double = np.column_stack([X, X[:, 0]])
    with pytest.raises(ValueError, match=r"rank 4 of 5 features.*ledoit_wolf"):
        fit_gaussians(double, codes, empirical=True)
    assert np.isfinite(distances(fit_gaussians(double, codes), double)).all()
