"""A scale and a bias for each class: the optimum, and where there is none."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from skuq.calibration import (
    QuantileRecalibrator,
    fit_matrix_scaling,
    fit_temperature,
    fit_vector_scaling,
)


def noisy(n=80, n_classes=3, n_draws=1, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, n_classes, n)
    signal = 1.5 * np.eye(n_classes)[y] * [1.0, 0.6, 0.2][:n_classes]
    return signal + random.normal(size=(n_draws, n, n_classes)), y


def objective(parameters, logits, y, weight, l2):
    """Of the docstring: the sum over rows, in units of a row of weight 1."""
    scale, bias = np.split(parameters, 2)
    u = logits * scale + bias
    log_proba = u - logsumexp(u, axis=-1, keepdims=True)
    rows = np.log(len(logits)) - logsumexp(log_proba[:, np.arange(len(y)), y], axis=0)
    return weight @ rows + l2 * (20 * ((scale - scale.mean()) ** 2).sum() + (bias**2).sum())


@pytest.mark.parametrize("l2", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("n_draws", [1, 3])
def test_the_optimum_is_that_of_another_optimiser(l2, n_draws):
    logits, y = noisy(n_draws=n_draws)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    scale, bias = fit_vector_scaling(logits, y, weight, l2=l2)
    found = np.r_[scale, bias]
    arguments = (logits, y, weight, l2)
    other = minimize(objective, np.r_[1, 1, 1, 0, 0, 0], arguments, "BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(found, other.x, atol=1e-4)
    for step in 1e-4 * np.eye(6):  # the slope is 0 in each direction
        slope = objective(found + step, *arguments) - objective(found - step, *arguments)
        assert abs(slope) / 2e-4 < 1e-4


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, y: -3 * logits,  # they mislead: the best scale is negative
        lambda logits, y: logits / 1e4,  # the best temperature lies below its bound
        lambda logits, y: logits * 1e4,  # above
    ],
    ids=["misleading", "small", "large"],
)
@pytest.mark.parametrize("l2", [0.0, 2.0])
def test_a_temperature_at_its_bound_is_no_reason_to_warn(change, l2):
    logits, y = noisy()
    logits = change(logits, y)
    with pytest.warns(ConvergenceWarning, match="at its bound"):
        assert fit_temperature(logits, y) in (0.01, 100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale, bias = fit_vector_scaling(logits, y, l2=l2)
    best = objective(np.r_[scale, bias], logits, y, np.ones(len(y)), l2)
    for factor in (0.9, 1.1):
        assert objective(np.r_[factor * scale, bias], logits, y, np.ones(len(y)), l2) > best


@pytest.mark.parametrize("l2", [0.0, 2.0])
@pytest.mark.parametrize("size", [0.01, 0.3, 1.0, 100.0, 1e5])
@pytest.mark.parametrize("n_draws", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_that_are_all_right_have_no_optimum(l2, size, n_draws, sign):
    random = np.random.default_rng(0)
    y = random.integers(0, 2 if sign < 0 else 3, 40)
    logits = sign * size * (np.eye(2 if sign < 0 else 3)[y] + random.uniform(0, 0.5))
    with pytest.warns(ConvergenceWarning, match="vector scaling has no optimum"):
        fit_vector_scaling(np.repeat(logits[None], n_draws, axis=0), y, l2=l2)


@pytest.mark.parametrize("l2", [0.0, 2.0])
def test_constant_logits_have_no_scale_but_an_optimum(l2):
    y = np.array([0] * 3 + [1] * 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale, bias = fit_vector_scaling(np.zeros((10, 2)), y, l2=l2)
    np.testing.assert_allclose(scale, 1)
    if l2 == 0:
        np.testing.assert_allclose(bias[1] - bias[0], np.log(7 / 3), rtol=1e-5)
    # Where the slope is 0: 10 p − 7 + 2 l2 b = 0, for the biases ∓b.
    p = 1 / (1 + np.exp(bias[0] - bias[1]))
    assert 10 * p - 7 + 2 * l2 * bias[1] == pytest.approx(0, abs=1e-5)


def test_targets_at_either_end_add_no_second_knot():
    """F is exactly 0 or 1 there, and R already begins at (0, 0) and ends at (1, 1)."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import BayesianRidge

    X = np.random.default_rng(0).normal(size=(40, 2))
    model = FrozenEstimator(BayesianRidge().fit(X, X[:, 0] + np.arange(40) % 3))
    y = model.predict(X)
    y[:2] = -1e6, 1e6
    with pytest.warns(UserWarning, match="2 of 40 targets"):
        fitted = QuantileRecalibrator(model).fit(X, y)
    (levels,), (frequencies,) = fitted.levels_, fitted.frequencies_
    assert (np.diff(levels) > 0).all() and levels[0] == 0 and levels[-1] == 1
    assert (np.diff(frequencies) > 0).all() and frequencies[0] == 0 and frequencies[-1] == 1
    assert np.isfinite(fitted.predict_quantiles(X, [0.01, 0.99])).all()


@pytest.mark.parametrize("factor", [1e20, 1e200, 1e300])
@pytest.mark.parametrize("l2", [0.0, 5.0])
def test_absurdly_large_logits_are_not_worse_than_with_one_temperature(factor, l2):
    logits, y = noisy()
    one, _ = fit_vector_scaling(logits, y, l2=1e12)  # the inverse of a temperature

    def cost(scale, bias):
        return objective(np.r_[scale, bias], factor * logits, y, np.ones(len(y)), l2)

    scale, bias = fit_vector_scaling(factor * logits, y, l2=l2)
    assert cost(scale, bias) < cost(one / factor, 0 * bias) + 1e-6
    for other in (0.9, 1.1):
        assert cost(other * scale, bias) > cost(scale, bias)


@pytest.mark.parametrize("fit", [fit_vector_scaling, fit_matrix_scaling])
@pytest.mark.parametrize("l2", [-1, float("nan"), float("inf"), None, "1", [1.0, 2.0]])
def test_the_penalty_is_one_finite_number(fit, l2):
    with pytest.raises(ValueError, match="l2 must be a finite number >= 0, got"):
        fit(np.eye(3), [0, 1, 2], l2=l2)
    assert fit(*noisy(), l2=np.float32(1))[0] is not None
