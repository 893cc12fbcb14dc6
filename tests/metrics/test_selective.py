"""Risk and coverage: published conventions, ties, guarantees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

from skuq.metrics import (
    accuracy_at_coverage,
    area_under_risk_coverage,
    coverage_at_risk,
    risk_coverage_curve,
    uncertainty_error_auroc,
)

METHODS = ("mean", "trapezoid", "generalized")


def by_errors(metric, errors, uncertainty, **options):
    errors = np.asarray(errors)
    return metric(np.zeros(len(errors)), errors.astype(float), uncertainty, **options)


def test_published_example():
    """Confidences .7, .6, .8 with the second wrong: two conventions, two numbers."""
    errors, confidence = [0, 1, 0], np.array([0.7, 0.6, 0.8])
    value = by_errors(area_under_risk_coverage, errors, -confidence)
    assert value == pytest.approx(1 / 9)
    value = by_errors(area_under_risk_coverage, errors, -confidence, method="trapezoid")
    assert value == pytest.approx(1 / 12)


def test_oracle_of_a_thousand():
    """A tenth wrong: r + (1 − r) log(1 − r) = .005175 in the limit, .005226 at n = 1000."""
    errors = np.arange(1000) >= 900
    assert by_errors(area_under_risk_coverage, errors, errors) == pytest.approx(5.226e-3, abs=1e-6)
    assert by_errors(area_under_risk_coverage, errors, errors, excess=True) == 0


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.integers(2, 50), st.integers(0, 10_000), st.booleans(), st.booleans())
def test_invariants(n, seed, ties, weighted):
    random = np.random.default_rng(seed)
    errors, scores = random.random(n) < 0.4, random.random(n)
    scores = np.round(scores, 1) if ties else scores
    weight = random.random(n) + 0.1 if weighted else None
    rate = np.average(errors, weights=weight)
    order = random.permutation(n)
    for method in METHODS:
        options = {"method": method, "sample_weight": weight}
        area = by_errors(area_under_risk_coverage, errors, scores, **options)
        shuffled = by_errors(
            area_under_risk_coverage,
            errors[order],
            scores[order],
            method=method,
            sample_weight=None if weight is None else weight[order],
        )
        assert shuffled == pytest.approx(area, abs=1e-12)
        best = by_errors(area_under_risk_coverage, errors, errors, **options)
        worst = by_errors(area_under_risk_coverage, errors, ~errors, **options)
        if not weighted:
            assert best - 1e-12 <= area <= worst + 1e-12
        constant = by_errors(area_under_risk_coverage, errors, np.ones(n), **options)
        assert constant == pytest.approx(rate / 2 if method == "generalized" else rate)
        rescaled = by_errors(area_under_risk_coverage, errors, np.exp(3 * scores), **options)
        assert rescaled == pytest.approx(area)
    curve = by_errors(risk_coverage_curve, errors, scores, sample_weight=weight)
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx(rate)


def test_ties_are_the_mean_over_orders():
    random = np.random.default_rng(0)
    errors, scores = random.random(12) < 0.5, random.integers(0, 3, 12)
    expected = {m: [] for m in METHODS}
    for _ in range(3000):
        broken = scores + 1e-6 * random.random(12)
        for method in METHODS:
            expected[method].append(
                by_errors(area_under_risk_coverage, errors, broken, method=method)
            )
    for method in METHODS:
        value = by_errors(area_under_risk_coverage, errors, scores, method=method)
        spread = np.std(expected[method]) / np.sqrt(3000)
        assert abs(value - np.mean(expected[method])) < 5 * spread


def test_generalized_area_is_its_formula():
    random = np.random.default_rng(0)
    errors, scores = random.random(400) < 0.3, random.integers(0, 50, 400)
    accuracy = 1 - errors.mean()
    expected = (1 - roc_auc_score(errors, scores)) * accuracy * (1 - accuracy)
    expected += (1 - accuracy) ** 2 / 2
    value = by_errors(area_under_risk_coverage, errors, scores, method="generalized")
    assert value == pytest.approx(expected, rel=1e-12)


def test_all_right_and_losses_of_regression():
    assert area_under_risk_coverage(["a", "b"], ["a", "b"], [0.1, 0.2]) == 0
    y, mean, u = np.array([0.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0]), [0.1, 0.2, 0.3]
    squared = area_under_risk_coverage(y, mean, u, loss="squared")
    assert squared == pytest.approx((1 + 2.5 + 14 / 3) / 3)
    absolute = area_under_risk_coverage(y, mean, u, loss=lambda a, b: np.abs(a - b))
    assert absolute == area_under_risk_coverage(y, mean, u, loss="absolute") == pytest.approx(1.5)
    two = np.stack([y, y], axis=1), np.stack([mean, 0 * mean], axis=1)
    assert area_under_risk_coverage(*two, u, loss="absolute") == pytest.approx(0.75)


def test_infinite_uncertainty_is_the_last_rank():
    errors, scores = [0, 1, 0, 1], [0.1, np.inf, 0.2, 5.0]
    assert by_errors(uncertainty_error_auroc, errors, scores) == 1
    assert by_errors(risk_coverage_curve, errors, scores).threshold[-1] == np.inf


def test_auroc_counts_ties_half_and_is_nan_of_one_kind():
    assert by_errors(uncertainty_error_auroc, [0, 1], [0.5, 0.5]) == 0.5
    with pytest.warns(UndefinedMetricWarning, match="none of the predictions"):
        assert np.isnan(by_errors(uncertainty_error_auroc, [0, 0], [0.1, 0.2]))
    with pytest.warns(UndefinedMetricWarning, match="all of the predictions"):
        assert np.isnan(by_errors(uncertainty_error_auroc, [1, 1], [0.1, 0.2]))


@pytest.mark.parametrize("coverage", [0.001, 0.1, 0.25, 0.5, 0.77, 1.0])
def test_accuracy_at_coverage(coverage):
    random = np.random.default_rng(0)
    errors, scores = random.random(200) < 0.3, random.random(200)
    kept = np.argsort(scores)[: int(np.ceil(coverage * 200))]
    value = by_errors(accuracy_at_coverage, errors, scores, coverage=coverage)
    assert value == pytest.approx(1 - errors[kept].mean())


def test_empirical_coverage_at_risk():
    errors, scores = np.array([0, 0, 1, 0, 1]), np.arange(5)
    found = by_errors(coverage_at_risk, errors, scores, risk=0.26, delta=None)
    assert found.coverage == 0.8 and found.threshold == 3 and found.risk == 0.25
    ties = by_errors(coverage_at_risk, errors, np.zeros(5), risk=0.26, delta=None)
    assert ties.coverage == 0 and ties.threshold == -np.inf and np.isnan(ties.risk)


def test_bound_is_the_inverse_of_the_binomial_tail():
    random = np.random.default_rng(0)
    scores = random.random(2000)
    errors = random.random(2000) < scores**2
    found = by_errors(coverage_at_risk, errors, scores, risk=0.1, delta=0.01)
    kept = scores <= found.threshold
    assert found.coverage == kept.mean() and found.risk == errors[kept].mean()
    assert found.risk < found.bound <= 0.1
    level = 0.01 / (2000).bit_length()
    tail = stats.binom.cdf(errors[kept].sum(), kept.sum(), found.bound)
    assert tail == pytest.approx(level, rel=1e-6)


def test_guarantee_holds_on_new_samples():
    """At delta = .2 the true risk of what is kept exceeds the target in fewer than 20 %."""
    random, risk, exceeded = np.random.default_rng(1), 0.1, 0
    for _ in range(300):
        scores = random.random(300)
        errors = random.random(300) < scores
        found = by_errors(coverage_at_risk, errors, scores, risk=risk, delta=0.2)
        exceeded += found.threshold / 2 > risk  # the true error rate below a threshold t is t/2
    assert stats.binom.sf(exceeded - 1, 300, 0.2) > 0.01


def test_too_few_samples_guarantee_nothing():
    assert by_errors(coverage_at_risk, [0] * 5, range(5), risk=0.01).coverage == 0
    assert by_errors(coverage_at_risk, [0], [0.1], risk=0.01).coverage == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: area_under_risk_coverage([0], [0], [0.1]), "at least 2"),
        (lambda: area_under_risk_coverage([0, 1], [0, 1], [0.1, np.nan]), "NaN"),
        (lambda: area_under_risk_coverage([0, 1], [0, 1], [0.1]), "inconsistent"),
        (lambda: area_under_risk_coverage([0, 1], [0, 1], [[0.1], [0.2]]), "several targets"),
        (lambda: area_under_risk_coverage([0, 1], [0, 1], [0, 1], method="x"), "method must be"),
        (lambda: area_under_risk_coverage([0, 1], [0, 1], [0, 1], loss="x"), "loss must be"),
        (lambda: area_under_risk_coverage([0, 1], [[0], [1]], [0, 1]), "one shape"),
        (lambda: accuracy_at_coverage([0, 1], [0, 1], [0, 1], coverage=0), "coverage must lie"),
        (lambda: coverage_at_risk([0, 1], [0, 1], [0, 1], risk=1.5), "risk must be one"),
        (lambda: coverage_at_risk([0, 1], [0, 1], [0, 1], risk=0.5, delta=0), "delta must be one"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_auroc_needs_losses_of_zero_and_one():
    with pytest.raises(ValueError, match=r"0 \(right\) or 1"):
        uncertainty_error_auroc([0.0, 2.0], [0.0, 0.5], [0, 1], loss="absolute")


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([0, np.nan, 1.0], [0, 1, 1], "NaN or None"),
        (np.array(["a", None, "b"], dtype=object), ["a", "a", "b"], "NaN or None"),
        (["0", "1", "1"], [0, 1, 1], "text"),
        ([0.3, 0.1, 0.2], [0.3, 0.2, 0.1], "continuous"),
    ],
)
def test_what_are_no_labels_of_one_kind(y_true, y_pred, message):
    for metric in (area_under_risk_coverage, accuracy_at_coverage):
        with pytest.raises(ValueError, match=message):
            metric(y_true, y_pred, [0.1, 0.2, 0.3])


@pytest.mark.parametrize("wrong", [28, 29, 57, 58])
def test_a_risk_that_is_just_reached_is_allowed(wrong):
    y_true, y_pred = np.arange(100) < wrong, np.zeros(100, bool)
    found = coverage_at_risk(y_true, y_pred, np.ones(100), risk=wrong / 100, delta=None)
    assert found.coverage == 1
