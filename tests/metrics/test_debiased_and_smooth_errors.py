"""Debiased, canonical and smooth calibration errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skuq._bins import uniform_index
from skuq.metrics import (
    brier_decomposition,
    brier_score,
    canonical_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    smooth_calibration_error,
)


def sample(n=300, k=3, seed=0, sharp=1.0):
    random = np.random.default_rng(seed)
    proba = random.dirichlet(np.full(k, sharp), n)
    y = (random.random((n, 1)) > proba.cumsum(1)).sum(1).clip(max=k - 1)
    return y, proba


@pytest.mark.parametrize("n_bins", [1, 3, 7, 10, 15, 1000])
def test_fast_bins_are_those_of_a_search(n_bins):
    levels = np.linspace(0, 1, n_bins + 1)
    random = np.random.default_rng(0).random(10_000)
    near = np.concatenate([levels, np.nextafter(levels, 0), np.nextafter(levels, 1).clip(max=1)])
    values = np.concatenate([random, near, np.linspace(0, 1, 1001), [0, 5e-324]])
    expected = np.clip(np.searchsorted(levels, values, side="left") - 1, 0, n_bins - 1)
    assert np.array_equal(uniform_index(values, levels), expected)


def test_debiased_error_by_hand():
    y = [1, 1, 1, 0, 0, 0, 0, 1]
    proba = [0.8] * 4 + [0.3] * 4  # frequencies .75 and .25
    correction = 0.75 * 0.25 / 3
    square = 0.5 * (0.05**2 - correction) + 0.5 * (0.05**2 - correction)
    options = {"kind": "binary", "norm": "l2", "n_bins": 10}
    assert square < 0
    assert expected_calibration_error(y, proba, debias=True, **options) == 0
    far = [0.99] * 4 + [0.01] * 4
    square = (0.24**2) - correction  # both gaps are .24 and .24
    value = expected_calibration_error(y, far, debias=True, **options)
    assert value == pytest.approx(square**0.5 if square > 0 else 0)
    with pytest.raises(ValueError, match="norm='l2'"):
        expected_calibration_error(y, proba, debias=True)


def test_debiased_error_leaves_out_bins_of_one():
    with pytest.warns(UserWarning, match="1 bins of a single sample"):
        value = expected_calibration_error(
            [1, 1, 1, 0, 0], [0.8, 0.8, 0.8, 0.8, 0.1], kind="binary", norm="l2", debias=True
        )
    assert value == pytest.approx(0)


def test_debiasing_takes_the_bias_away():
    """Of calibrated predictions the squared error is 0 on average; the plain one is not."""
    plain, debiased = [], []
    for seed in range(60):
        y, proba = sample(400, 2, seed)
        options = {"norm": "l2", "kind": "binary", "strategy": "quantile"}
        plain.append(expected_calibration_error(y, proba, **options))
        debiased.append(expected_calibration_error(y, proba, debias=True, **options))
    assert np.mean(debiased) < 0.5 * np.mean(plain)


def test_weights_of_one_do_not_change_the_debiased_error():
    y, proba = sample()
    options = {"norm": "l2", "debias": True, "n_bins": 5, "strategy": "quantile"}
    assert expected_calibration_error(y, proba, **options) == pytest.approx(
        expected_calibration_error(y, proba, sample_weight=np.full(len(y), 2.0), **options)
    )


def test_canonical_error_by_hand():
    y = [0, 1, 2, 0]
    proba = [[0.61, 0.29, 0.1], [0.69, 0.21, 0.1], [0.15, 0.15, 0.7], [0.15, 0.15, 0.7]]
    first = np.abs(np.array([0.65 - 0.5, 0.25 - 0.5, 0.1])).sum() / 2
    second = np.abs(np.array([0.15 - 0.5, 0.15, 0.7 - 0.5])).sum() / 2
    assert canonical_calibration_error(y, proba) == pytest.approx((first + second) / 2)


def test_canonical_error_of_two_classes_is_the_binary_error():
    y, proba = sample(500, 2)
    assert canonical_calibration_error(y, proba[:, 1]) == pytest.approx(
        expected_calibration_error(y, proba, kind="binary", n_bins=10), abs=1e-3
    )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 1000))
def test_bounds_and_order(n, k, seed):
    y, proba = sample(n, k, seed, sharp=0.3)
    order = np.random.default_rng(seed).permutation(n)
    weight = np.random.default_rng(seed).random(n) + 0.1
    labels = np.arange(k)
    for metric in (canonical_calibration_error, smooth_calibration_error, brier_score):
        value = metric(y, proba, labels=labels, sample_weight=weight)
        assert 0 <= value <= (2 if metric is brier_score else 1) + 1e-12
        again = metric(y[order], proba[order], labels=labels, sample_weight=weight[order])
        assert again == pytest.approx(value, abs=1e-9)
    finer = expected_calibration_error(y, proba, labels=labels, n_bins=10)
    assert expected_calibration_error(y, proba, labels=labels, n_bins=5) <= finer + 1e-12


def test_smooth_error_of_one_value_is_the_gap():
    y = np.r_[np.ones(60), np.zeros(40)].astype(int)
    for bandwidth in (None, 0.01, 0.1):
        value = smooth_calibration_error(y, np.full(100, 0.9), kind="binary", bandwidth=bandwidth)
        assert value == pytest.approx(0.3, abs=1e-9)  # the kernel keeps its mass


def test_smooth_error_against_the_integral():
    y, proba = sample(40, 2)
    confidence, sigma = proba[:, 1], 0.05
    grid = (np.arange(20_000) + 0.5) / 20_000
    total = np.zeros_like(grid)
    for p, residual in zip(confidence, y - confidence):
        for image in (p, -p, 2 - p, p + 2, p - 2):  # reflected at 0 and 1
            total += residual * np.exp(-0.5 * ((grid - image) / sigma) ** 2)
    expected = np.abs(total / (sigma * np.sqrt(2 * np.pi)) / len(y)).mean()
    value = smooth_calibration_error(y, proba, kind="binary", bandwidth=sigma)
    assert value == pytest.approx(expected, rel=1e-4)


def test_smooth_error_is_its_own_bandwidth():
    y, proba = sample(500, 2)
    overconfident = proba**3 / (proba**3).sum(1, keepdims=True)
    value = smooth_calibration_error(y, overconfident, kind="binary")
    assert value == pytest.approx(
        smooth_calibration_error(y, overconfident, kind="binary", bandwidth=value), abs=1e-6
    )
    assert value > 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smooth_calibration_error([0, 1], [0.5, 0.5], bandwidth=0), "bandwidth"),
        (lambda: canonical_calibration_error([0, 1], [0.5, 0.5], n_bins=0), "n_bins"),
        (lambda: canonical_calibration_error([0, 1], [0.5, 1.5]), r"\[0, 1\]"),
        (lambda: brier_score([0, 1, 2], [0.5, 0.5, 0.5]), "labels"),
        (lambda: negative_log_likelihood([0, 1], [[0.5, np.nan]] * 2), "NaN"),
        (lambda: brier_decomposition([], []), "empty"),
        (lambda: smooth_calibration_error([0, 1], [0.1, 0.2], kind="top"), "kind must be one of"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
