"""Confidence intervals of metrics by the bootstrap, against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, mean_squared_error, roc_auc_score

from skuq import metrics as m
from skuq.metrics import bootstrap

RANDOM = np.random.default_rng(0)
Y = RANDOM.integers(2, size=300)
P = np.clip(0.5 + (Y - 0.5) * 0.6 + RANDOM.normal(0, 0.25, 300), 0.02, 0.98)
PROBA = np.stack([1 - P, P], axis=1)
VALUES = RANDOM.normal(3.0, 2.0, size=300)


def mean_of(y, values, sample_weight=None):
    return np.average(values, weights=sample_weight)


def test_the_interval_of_a_mean_is_the_normal_one():
    found = bootstrap(mean_of, Y, VALUES, n_resamples=1000)
    error = VALUES.std() / np.sqrt(300)
    assert found.value == VALUES.mean()
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert abs(found.bias) < 0.1 * error and len(found.resamples) == 1000
    expected = VALUES.mean() + error * norm.ppf([0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.15 * error)
    narrow = bootstrap(mean_of, Y, VALUES, n_resamples=1000, confidence_level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 * error, rel=0.1)
    basic = bootstrap(mean_of, Y, VALUES, n_resamples=1000, interval="basic")
    assert basic.low == pytest.approx(2 * found.value - found.high)
    assert basic.high == pytest.approx(2 * found.value - found.low)


def test_it_covers_the_truth():
    inside = 0
    for seed in range(80):
        rows = np.random.default_rng(seed).normal(size=60)
        found = bootstrap(mean_of, rows, rows, n_resamples=100)
        inside += found.low <= 0 <= found.high
    assert 0.87 <= inside / 80 <= 0.99


def test_models_are_compared_on_the_same_rows():
    hard = RANDOM.normal(0, 5, size=300)  # errors that both models make
    one, other = VALUES + hard + 0.1, VALUES + hard
    paired = bootstrap(mean_squared_error, VALUES, one, against=[other])
    difference = (one - VALUES) ** 2 - (other - VALUES) ** 2
    assert paired.value == pytest.approx(difference.mean())
    assert paired.standard_error == pytest.approx(difference.std() / np.sqrt(300), rel=0.1)
    single = bootstrap(mean_squared_error, VALUES, one)
    assert paired.standard_error < 0.1 * single.standard_error
    same = bootstrap(m.brier_score, Y, PROBA, against=[PROBA], n_resamples=20)
    assert same[:5] == (0.0, 0.0, 0.0, 0.0, 0.0)
    # Two calls with one seed draw the same rows.
    other_single = bootstrap(mean_squared_error, VALUES, other)
    np.testing.assert_allclose(single.resamples - other_single.resamples, paired.resamples)


def test_groups_are_drawn_as_a_whole():
    of_group = RANDOM.normal(size=40)
    values, groups = np.repeat(of_group, 5), np.repeat(np.arange(40).astype(str), 5)
    grouped = bootstrap(mean_of, values, values, groups=groups)
    assert grouped.standard_error == pytest.approx(of_group.std() / np.sqrt(40), rel=0.1)
    single = bootstrap(mean_of, values, values)
    assert grouped.standard_error == pytest.approx(single.standard_error * np.sqrt(5), rel=0.15)
    # Groups of one row each are rows.
    alone = bootstrap(mean_of, Y, VALUES, groups=np.arange(300))
    assert np.array_equal(alone.resamples, bootstrap(mean_of, Y, VALUES).resamples)


def test_weights_go_with_their_rows():
    weight = np.where(np.arange(300) < 100, 1.0, 0.0)
    found = bootstrap(mean_of, Y, VALUES, sample_weight=weight)
    few = VALUES[:100]
    assert found.value == pytest.approx(few.mean())
    assert found.standard_error == pytest.approx(few.std() / 10, rel=0.15)


def test_the_ece_of_few_rows_is_too_high():
    """Resamples show it: they are higher still. "basic" takes the bias out."""
    confidence = RANDOM.uniform(0.5, 1, size=300)
    right = (RANDOM.random(300) < confidence).astype(int)  # calibrated: the true ECE is 0
    options = {"kind": "binary", "labels": [0, 1], "n_resamples": 200}
    ece = m.expected_calibration_error
    with pytest.warns(UserWarning, match="biased on few rows"):
        percentile = bootstrap(ece, right, confidence, **options)
    basic = bootstrap(ece, right, confidence, interval="basic", **options)
    assert percentile.bias > percentile.standard_error
    assert basic.low < basic.value - basic.bias < basic.high
    assert percentile.low > 0 and basic.low < percentile.low
    shifted = np.clip(confidence - 0.3, 0, 1)  # clearly too low: no bias
    assert abs(bootstrap(ece, right, shifted, **options).bias) < 0.01


def test_metrics_of_every_kind():
    assert bootstrap(roc_auc_score, Y, P, n_resamples=50).low > 0.5
    few = {"n_resamples": 50}
    ranks = (Y, P > 0.5, -abs(P - 0.5))
    found = bootstrap(m.area_under_risk_coverage, *ranks, method="generalized", **few)
    assert found.low <= found.value <= found.high
    names = np.array(["no", "yes"])[Y]
    assert bootstrap(accuracy_score, names, names, **few).value == 1.0
    ends = np.stack([VALUES - 1, VALUES + 1], axis=1)
    assert bootstrap(m.prediction_interval_coverage, VALUES, ends, **few).standard_error == 0
    # A resample may lack a rare class: the labels of all rows are known.
    rare = np.zeros(40, dtype=int)
    rare[:2] = 1, 2
    flat = np.full((40, 3), 1 / 3)
    found = bootstrap(m.negative_log_likelihood, rare, flat, n_resamples=20)
    np.testing.assert_allclose(found.resamples, np.log(3))


def test_frames_and_seeds():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(PROBA, index=np.arange(300)[::-1])
    found = bootstrap(m.brier_score, pd.Series(Y), frame, n_resamples=50)
    plain = bootstrap(m.brier_score, Y, PROBA, n_resamples=50)
    assert np.array_equal(found.resamples, plain.resamples)
    again = bootstrap(m.brier_score, Y, PROBA, n_resamples=50, random_state=0)
    other = bootstrap(m.brier_score, Y, PROBA, n_resamples=50, random_state=1)
    assert np.array_equal(again.resamples, plain.resamples)
    assert not np.array_equal(other.resamples, plain.resamples)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((Y, PROBA[1:]), {}, "inconsistent numbers"),
        ((Y, PROBA), {"confidence_level": 1.0}, "confidence_level"),
        ((Y, PROBA), {"interval": "bca"}, "interval must be one of"),
        ((Y, PROBA), {"n_resamples": 1}, "n_resamples must be an integer of at least 2"),
        ((Y, PROBA), {"n_resamples": 10.0}, "n_resamples must be an integer"),
        ((Y, PROBA), {"against": PROBA}, "against must hold 1 arrays"),
        ((Y, PROBA), {"against": [PROBA[1:]]}, "inconsistent numbers"),
        ((Y, PROBA), {"groups": np.zeros(300)}, "at least 2 groups, got 1"),
        ((Y, PROBA), {"groups": np.zeros(3)}, "groups must hold 300 groups"),
        ((Y, PROBA), {"groups": np.full(300, np.nan)}, "groups contains NaN"),
        ((Y[:1], PROBA[:1]), {"labels": [0, 1]}, "at least 2 rows, got 1"),
        ((Y, PROBA * np.nan), {}, "y_proba"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(m.brier_score, *arguments, **options)


def test_errors_of_the_metric():
    with pytest.raises(TypeError, match="needs a metric and the arrays"):
        bootstrap(m.brier_score, Y)
    with pytest.raises(TypeError, match="needs a metric and the arrays"):
        bootstrap("brier_score", Y, PROBA)
    with pytest.raises(TypeError, match=r"one number, got an array of shape \(300,\)"):
        bootstrap(lambda y, values: values, Y, VALUES)
    with pytest.raises(ValueError, match="the metric is infinite"):
        bootstrap(lambda y, values: np.inf, Y, VALUES, n_resamples=5)
    lonely = np.zeros(30)
    lonely[0] = 1

    def of_two_kinds(y, values):
        if len(np.unique(y)) < 2:
            raise ValueError("one class")
        return values.mean()

    with pytest.raises(ValueError, match=r"undefined on \d+ of 1000 resamples"):
        bootstrap(of_two_kinds, lonely, lonely)


def test_legends():
    pytest.importorskip("matplotlib")
    options = {"n_resamples": 100}
    shown = m.ReliabilityDisplay.from_predictions(Y, PROBA, name="net", **options)
    low, high = shown.interval
    assert 0 <= low <= high
    assert shown.line_.get_label() == f"net (ECE {shown.ece:.3f} [{low:.3g}, {high:.3g}])"
    ranks = (Y, (P > 0.5).astype(int), -abs(P - 0.5))
    shown = m.RiskCoverageDisplay.from_predictions(*ranks, **options)
    found = bootstrap(m.area_under_risk_coverage, *ranks, loss="zero_one", **options)
    assert shown.interval == (found.low, found.high)
    assert f"[{found.low:.3g}, {found.high:.3g}]" in shown.line_.get_label()
    assert m.RiskCoverageDisplay.from_predictions(*ranks).interval is None
