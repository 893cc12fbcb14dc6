"""Scores and calibration of predicted distributions, intervals and quantiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.stats import norm

from skuq.metrics import (
    crps,
    expected_normalized_calibration_error,
    gaussian_nll,
    interval_score,
    mean_interval_width,
    pinball_loss,
    pit_values,
    prediction_interval_coverage,
    quantile_calibration_error,
    sharpness,
)


def mixture(seed=0, n_draws=4, n=6):
    random = np.random.default_rng(seed)
    mean, std = random.normal(size=(n_draws, n)), random.lognormal(sigma=0.5, size=(n_draws, n))
    return random.normal(size=n) * 1.5, mean, std


def test_nll_of_a_normal_and_of_a_mixture():
    y, mean, std = mixture()
    assert gaussian_nll(y, mean[0], std[0]) == pytest.approx(
        -norm.logpdf(y, mean[0], std[0]).mean()
    )
    expected = -np.log(norm.pdf(y, mean, std).mean(0)).mean()
    assert gaussian_nll(y, mean, std) == pytest.approx(expected)
    joint = norm.logpdf(np.stack([y, y], 1), np.stack([mean, -mean], 2), np.stack([std, std], 2))
    expected = -np.log(np.exp(joint.sum(2)).mean(0)).mean()
    value = gaussian_nll(np.stack([y, y], 1), np.stack([mean, -mean], 2), np.stack([std, std], 2))
    assert value == pytest.approx(expected)


def test_crps_is_its_integral():
    y, mean, std = mixture()
    for m, s in ((mean[:1], std[:1]), (mean, std)):
        expected = []
        for i in range(len(y)):

            def square(x, i=i, m=m, s=s):
                return (norm.cdf(x, m[:, i], s[:, i]).mean() - (x >= y[i])) ** 2

            ends = -30, float(y[i]), 30
            expected.append(sum(integrate.quad(square, *e)[0] for e in (ends[:2], ends[1:])))
        assert crps(y, m, s) == pytest.approx(np.mean(expected), abs=1e-7)


def test_crps_of_points():
    y, mean, _ = mixture()
    expected = np.abs(mean - y).mean(0) - 0.5 * np.abs(mean[:, None] - mean[None]).mean((0, 1))
    assert crps(y, mean) == pytest.approx(expected.mean())
    assert crps(y, mean, np.zeros_like(mean)) == pytest.approx(expected.mean())
    assert crps(y, mean[0]) == pytest.approx(np.abs(y - mean[0]).mean())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_crps_tends_to_the_absolute_error(y, mean):
    assert crps([y], [mean], [1e-9]) == pytest.approx(abs(y - mean), abs=1e-8)


def test_golden_numbers():
    assert crps([0.0], [0.0], [1.0]) == pytest.approx(0.2337, abs=5e-5)
    assert gaussian_nll([0.0], [0.0], [1.0]) == pytest.approx(0.5 * np.log(2 * np.pi))


@pytest.mark.parametrize("score", ["nll", "crps", "interval", "pinball"])
def test_proper_scores_are_least_at_the_truth(score):
    """Of normal y, over a grid of standard deviations (or quantiles)."""
    y = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    grid = np.linspace(0.5, 1.5, 41)

    def value(s):
        if score == "nll":
            return gaussian_nll(y, np.zeros_like(y), np.full_like(y, s))
        if score == "crps":
            return crps(y, np.zeros_like(y), np.full_like(y, s))
        ends = s * norm.ppf([0.1, 0.9])
        if score == "interval":
            return interval_score(y, np.tile(ends, (len(y), 1)), confidence_level=0.8)
        return pinball_loss(y, np.tile(ends, (len(y), 1)), [0.1, 0.9])

    assert grid[np.argmin([value(s) for s in grid])] == pytest.approx(1, abs=0.03)


def test_interval_score_is_a_sum_of_pinball_losses():
    random = np.random.default_rng(0)
    y, ends = random.normal(size=(50, 2)), np.sort(random.normal(size=(50, 2, 2)), axis=-1)
    pinball = pinball_loss(y, ends, [0.1, 0.9])  # the mean of both levels
    score = interval_score(y, ends, confidence_level=0.8)
    assert score == pytest.approx(2 * pinball * 2 / 0.2)


def test_coverage_and_width():
    y = np.array([0.0, 1.0, 2.0, 3.0])
    interval = np.array([[0, 1], [0, 1], [0, 1], [2, 4]])
    assert prediction_interval_coverage(y, interval) == 0.75  # ends count
    assert prediction_interval_coverage(y, interval, sample_weight=[1, 1, 4, 2]) == 0.5
    assert mean_interval_width(interval) == 1.25
    infinite = np.array([[-np.inf, np.inf]] * 4)
    assert prediction_interval_coverage(y, infinite) == 1
    assert mean_interval_width(infinite) == np.inf


def test_pit():
    y, mean, std = mixture(n=50)
    np.testing.assert_allclose(pit_values(y, mean, std), norm.cdf(y, mean, std).mean(0))
    np.testing.assert_allclose(pit_values([1.0], [[0.0], [1.0], [2.0]]), [0.5])
    random = np.random.default_rng(0)
    mean, std = random.normal(size=2000), random.lognormal(size=2000)
    y = random.normal(mean, std)
    assert stats.kstest(pit_values(y, mean, std), "uniform").pvalue > 0.01
    assert stats.kstest(pit_values(y, mean, std / 2), "uniform").pvalue < 1e-6


def test_quantile_calibration():
    y = np.arange(1, 101.0)
    quantiles = np.tile([10.0, 60.0], (100, 1))
    error = quantile_calibration_error(y, quantiles, [0.1, 0.5])
    assert error == pytest.approx(0.05)
    for norm_, expected in (("l2", np.sqrt(0.005)), ("max", 0.1)):
        value = quantile_calibration_error(y, quantiles, [0.1, 0.5], norm=norm_)
        assert value == pytest.approx(expected)


def test_ence_by_hand_and_of_calibrated_predictions():
    y = np.array([1.0, -1.0, 3.0, -3.0])
    std = np.array([1.0, 1.0, 2.0, 2.0])
    value = expected_normalized_calibration_error(y, np.zeros(4), std, n_bins=2)
    assert value == pytest.approx((0 + 0.5) / 2)
    random = np.random.default_rng(0)
    std = random.lognormal(size=20_000)
    value = expected_normalized_calibration_error(random.normal(0, std), 0 * std, std)
    assert value < 0.03
    doubled = expected_normalized_calibration_error(random.normal(0, std), 0 * std, 2 * std)
    assert doubled == pytest.approx(0.5, abs=0.03)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(0, 1000))
def test_order_and_weights(seed):
    random = np.random.default_rng(seed)
    n = 20
    y, mean, std = random.normal(size=n), random.normal(size=(3, n)), random.random((3, n)) + 0.1
    ends = np.sort(random.normal(size=(n, 2)))
    counts = random.integers(0, 3, n)
    counts[0] = 1
    repeated = random.permutation(np.repeat(np.arange(n), counts))

    for name, metric in {
        "nll": lambda r, w: gaussian_nll(y[r], mean[:, r], std[:, r], sample_weight=w),
        "crps": lambda r, w: crps(y[r], mean[:, r], std[:, r], sample_weight=w),
        "interval": lambda r, w: interval_score(y[r], ends[r], sample_weight=w),
        "picp": lambda r, w: prediction_interval_coverage(y[r], ends[r], sample_weight=w),
        "width": lambda r, w: mean_interval_width(ends[r], sample_weight=w),
        "pinball": lambda r, w: pinball_loss(y[r], ends[r], [0.2, 0.8], sample_weight=w),
        "qce": lambda r, w: quantile_calibration_error(y[r], ends[r], [0.2, 0.8], sample_weight=w),
        "ence": lambda r, w: expected_normalized_calibration_error(
            y[r], mean[0, r], std[0, r], n_bins=3, sample_weight=w
        ),
        "sharpness": lambda r, w: sharpness(std[0, r], sample_weight=w),
    }.items():
        assert metric(np.arange(n), counts) == pytest.approx(metric(repeated, None)), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_nll([0.0], [0.0], [0.0]), "std must be positive"),
        (lambda: gaussian_nll([0.0], [0.0], None), "std must be an array"),
        (lambda: gaussian_nll([np.nan], [0.0], [1.0]), "y_true contains NaN"),
        (lambda: crps([0.0, 1.0], [0.0], [1.0]), "mean must have the shape"),
        (lambda: crps([0.0], [0.0], [-1.0]), "std must be >= 0"),
        (lambda: crps([], []), "empty"),
        (lambda: interval_score([0.0], [[1, 0]]), "above"),
        (lambda: interval_score([0.0], [0, 1]), "interval must have shape"),
        (lambda: interval_score([0.0], [[0, 1]], confidence_level=1), "confidence_level"),
        (lambda: prediction_interval_coverage([0.0], [[0, np.nan]]), "NaN"),
        (lambda: pinball_loss([0.0], [[0, 1]], [0.5]), "quantiles must have shape"),
        (lambda: pinball_loss([0.0], [0.0], 1.0), "strictly between"),
        (lambda: sharpness([-1.0]), "std must be"),
        (lambda: mean_interval_width([1.0]), "interval must have shape"),
        (
            lambda: expected_normalized_calibration_error([0.0], [[0.0], [1.0]], [[1.0], [1.0]]),
            "combine draws",
        ),
        (lambda: crps([0.0], [0.0], [1.0], sample_weight=[1, 2]), "sample_weight must hold 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
