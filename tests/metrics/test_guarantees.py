"""Thresholds with a guarantee: closed forms, small cases by hand, and levels in simulation."""

import numpy as np
import pytest
from scipy import integrate, stats

from skuq.metrics import coverage_at_risk
from skuq.metrics._guarantees import (
    at_coverage,
    at_threshold,
    certified,
    empirical,
    fewest_rows,
    p_values,
    ranked,
    upper_limit,
)

N_SETS = 1000


def rows_of(errors):
    """Rows whose uncertainty is their place."""
    errors = np.asarray(errors, dtype=float)
    return ranked(errors, np.arange(len(errors), dtype=float))


@pytest.mark.parametrize("risk", [0.01, 0.1, 0.5])
def test_p_values_of_errors_are_binomial_tails(risk):
    n_kept = np.array([1, 7, 50, 5000])
    total = np.array([0, 2, 3, 45])
    expected = stats.binom.cdf(total, n_kept, risk)
    assert p_values(total, n_kept, risk, True) == pytest.approx(expected, rel=1e-9)


def test_p_values_of_bounded_losses():
    # Hoeffding: exp(-n kl(mean, risk)); Bentkus: e P(Bin(n, risk) <= ceil(total)).
    kl = 0.1 * np.log(0.1 / 0.3) + 0.9 * np.log(0.9 / 0.7)
    hoeffding, bentkus = np.exp(-100 * kl), np.e * stats.binom.cdf(10, 100, 0.3)
    assert p_values(10.0, 100, 0.3, False) == pytest.approx(min(hoeffding, bentkus), rel=1e-9)
    few = np.e * stats.binom.cdf(3, 40, 0.3)  # 2.2 is rounded up
    kl = 0.055 * np.log(0.055 / 0.3) + 0.945 * np.log(0.945 / 0.7)
    assert p_values(2.2, 40, 0.3, False) == pytest.approx(min(np.exp(-40 * kl), few), rel=1e-9)
    assert p_values(50.0, 100, 0.3, False) == 1
    assert p_values(0.0, 10, 0.2, False) == pytest.approx(0.8**10)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("total", "n_kept"), [(0, 20), (3, 50), (19, 20)])
def test_upper_limit_is_where_the_p_value_is_delta(total, n_kept, binary):
    limit = upper_limit(total, n_kept, 0.05, binary)
    assert total / n_kept < limit < 1
    assert p_values(total, n_kept, limit, binary) == pytest.approx(0.05, rel=1e-6)
    assert upper_limit(n_kept, n_kept, 0.05, binary) == 1


@pytest.mark.parametrize("method", ["fixed_sequence", "sgr", "crc"])
@pytest.mark.parametrize(("risk", "delta"), [(0.05, 0.05), (0.01, 0.001), (0.2, 0.1), (0.5, 0.5)])
def test_fewest_rows_are_the_fewest(method, risk, delta):
    fewest = fewest_rows(risk, delta, method)
    kept = [
        certified(rows_of(np.zeros(n)), risk, delta, method).coverage > 0
        for n in (fewest - 1, fewest)
        if n
    ]
    assert kept[-1] and not any(kept[:-1])


def test_one_early_error_ends_a_fixed_sequence_of_one_start():
    errors = np.zeros(300)
    errors[58] = 1  # of 59 rows, which are the fewest at risk .05 and delta .05
    rows = rows_of(errors)
    assert certified(rows, 0.05, 0.05, "fixed_sequence", 1).coverage == 0
    # Of two starts the second one, at 72 + (300 - 72) / 2 = 186, passes up to the end.
    found = certified(rows, 0.05, 0.05, "fixed_sequence", 2)
    assert found == (1.0, 299.0, 1 / 300, 0.05)
    # Without that error the first start passes alone, up to the first row that fails.
    errors[58], errors[100:] = 0, 1
    kept = certified(rows_of(errors), 0.05, 0.05, "fixed_sequence", 1)
    passing = np.flatnonzero(stats.binom.cdf(errors.cumsum(), np.arange(1, 301), 0.05) <= 0.05)
    assert kept.threshold == passing[-1] == 100


def test_an_unbroken_sequence_brings_its_error_to_the_next_start():
    # Two starts of level .025, at 72 and 186; from 186 on the level is .05 if none failed before.
    errors = np.zeros(300)
    errors[185:190] = 1
    tail = stats.binom.cdf(errors.cumsum(), np.arange(1, 301), 0.05)
    assert 0.025 < tail[188] < 0.05 < tail[190 - 1]  # 4 errors in 189 rows need the full level
    assert certified(rows_of(errors), 0.05, 0.05, "fixed_sequence", 2).threshold == 188
    errors[71] = 1  # now the first start fails at once, and takes its share along
    assert certified(rows_of(errors), 0.05, 0.05, "fixed_sequence", 2).threshold < 188


def test_expected_joint_risk_by_hand():
    found = certified(rows_of([0, 0, 1, 0, 1, 0, 0, 0, 1]), 0.3, 0.05, "crc")
    # (errors + 1) / (9 + 1) <= .3 up to the eighth row, which keeps two errors.
    assert found.threshold == 7 and found.bound == 0.3 and found.risk == 0.25
    assert certified(rows_of([1, 0, 0]), 0.3, 0.05, "crc").threshold == -np.inf


@pytest.mark.parametrize("method", ["fixed_sequence", "sgr", "crc"])
def test_equal_uncertainties_are_kept_together_in_any_order(method):
    random = np.random.default_rng(0)
    scores = random.integers(0, 30, 400).astype(float)
    losses = (random.random(400) < (scores / 30) ** 4).astype(float)
    found = certified(ranked(losses, scores), 0.1, 0.05, method)
    assert 0 < found.coverage < 1
    assert found.coverage == (scores <= found.threshold).mean()
    order = random.permutation(400)
    assert certified(ranked(losses[order], scores[order]), 0.1, 0.05, method) == found


def test_fixed_thresholds_and_coverages():
    rows = rows_of([0, 0, 1, 0, 1])
    found = at_threshold(rows, 2.5, 0.05)
    assert found[:3] == (0.6, 2.5, 1 / 3)
    assert found.bound == pytest.approx(stats.beta.ppf(0.95, 2, 2))
    assert at_threshold(rows, -1.0, 0.05)[0] == 0
    assert [at_coverage(rows, c, 0.05).threshold for c in (0.01, 0.2, 0.41, 0.6, 1)] == [
        0, 0, 2, 2, 4,
    ]  # fmt: skip
    ties = ranked(np.zeros(5), np.array([0.0, 1, 1, 1, 2]))
    assert at_coverage(ties, 0.4, 0.05).coverage == 0.8


def test_losses_must_lie_between_0_and_1():
    with pytest.raises(ValueError, match=r"losses must lie in \[0, 1\], got 0 to 2"):
        ranked(np.array([0.0, 2.0]), np.zeros(2))


# -- levels, on 1,000 calibration sets from known distributions -----------------------------------

RISING = (lambda s: s**4, lambda t: t**4 / 5)
# The most certain rows err more often than those after them, as overconfident networks do.
BENT = (
    lambda s: np.where(s < 0.05, 0.2, np.maximum(s - 0.4, 0)),
    lambda t: (0.2 * min(t, 0.05) + max(t - 0.4, 0) ** 2 / 2) / t,
)
# Every threshold just misses the target: the hardest case for a level.
FLAT = (lambda s: 0.1001 + 0 * s, lambda t: 0.1001)


def calibration_sets(error_rate, n, seed):
    random = np.random.default_rng(seed)
    for _ in range(N_SETS):
        scores = random.random(n)
        yield (random.random(n) < error_rate(scores)).astype(float), scores


def test_the_risks_of_the_simulations_are_right():
    for error_rate, risk in (RISING, BENT, FLAT):
        for threshold in (0.04, 0.3, 0.9):
            area = integrate.quad(error_rate, 0, threshold, points=[0.05, 0.4], limit=200)[0]
            assert risk(threshold) == pytest.approx(area / threshold, rel=1e-6)


@pytest.mark.parametrize(
    ("method", "n_starts"),
    [("fixed_sequence", 1), ("fixed_sequence", 2), ("fixed_sequence", 5), ("sgr", 1)],
)
@pytest.mark.parametrize("case", [RISING, BENT, FLAT], ids=["rising", "bent", "flat"])
def test_the_true_risk_exceeds_the_target_as_rarely_as_promised(case, method, n_starts):
    (error_rate, risk), delta = case, 0.1
    exceeded, kept = 0, 0.0
    for losses, scores in calibration_sets(error_rate, 500, seed=0):
        found = certified(ranked(losses, scores), 0.1, delta, method, n_starts)
        kept += found.coverage / N_SETS
        exceeded += found.coverage > 0 and risk(found.threshold) > 0.1
    assert exceeded / N_SETS <= delta + 3 * np.sqrt(delta * (1 - delta) / N_SETS)
    if case is not FLAT and n_starts > 1:
        assert kept > 0.4  # the level is not held by refusing everything
    if case is FLAT and n_starts == 1 and method == "fixed_sequence":
        assert exceeded / N_SETS > delta / 2


def test_levels_of_bounded_losses():
    """The loss of a row is a beta variable of mean s⁴."""
    random, delta, exceeded, kept = np.random.default_rng(1), 0.1, 0, 0.0
    for _ in range(N_SETS):
        scores = random.random(400).clip(0.1)
        losses = random.beta(3 * scores**4, 3 * (1 - scores**4).clip(1e-3))
        found = certified(ranked(losses, scores), 0.1, delta, "fixed_sequence")
        kept += found.coverage / N_SETS
        exceeded += found.coverage > 0 and found.threshold**4 / 5 > 0.1
    assert kept > 0.2
    assert exceeded / N_SETS <= delta + 3 * np.sqrt(delta * (1 - delta) / N_SETS)


def test_the_mean_joint_risk_of_crc_is_at_most_the_target():
    joint = []
    for losses, scores in calibration_sets(RISING[0], 100, seed=2):
        threshold = max(certified(ranked(losses, scores), 0.1, 0.5, "crc").threshold, 0.0)
        joint.append(threshold**5 / 5)  # E[loss · accepted] of the rising error rate
    standard_error = np.std(joint) / np.sqrt(N_SETS)
    assert 0.06 < np.mean(joint) < 0.1 + 3 * standard_error


def test_the_bound_of_crc_is_the_target_and_not_the_estimate_that_chose():
    # Half of the rows never lose, the other half lose 20 %: the joint risk of all is 0.1. The
    # estimate (errors + 1) / (n + 1) lies below it whenever it lets all of them pass.
    random, joint, estimates, bounds = np.random.default_rng(4), [], [], []
    scores = np.repeat([0.0, 1.0], 50)
    for _ in range(N_SETS):
        losses = (random.random(100) < 0.2 * scores).astype(float)
        found = certified(ranked(losses, scores), 0.1, 0.5, "crc")
        joint.append(0.1 * found.threshold)
        estimates.append((losses.sum() * found.threshold + 1) / 101)
        bounds.append(found.bound)
    assert np.mean(estimates) + 3 * np.std(joint) / np.sqrt(N_SETS) / 10 < np.mean(joint) < 0.1
    assert set(bounds) == {0.1}


@pytest.mark.parametrize("judge", [at_threshold, at_coverage])
def test_bounds_of_fixed_thresholds_and_coverages_hold(judge):
    delta, exceeded = 0.1, 0
    for losses, scores in calibration_sets(RISING[0], 200, seed=3):
        found = judge(ranked(losses, scores), 0.9, delta)
        exceeded += RISING[1](found.threshold) > found.bound
    assert 0.05 < exceeded / N_SETS <= delta + 3 * np.sqrt(delta * (1 - delta) / N_SETS)


# -- the public function ---------------------------------------------------------------------------


def test_coverage_at_risk_by_each_method():
    random = np.random.default_rng(0)
    scores = random.random(1000)
    errors = random.random(1000) < scores**4
    rows = ranked(errors.astype(float), scores)
    zeros = np.zeros(1000, dtype=int)
    for method in ("fixed_sequence", "sgr", "crc"):
        found = coverage_at_risk(zeros, errors, scores, risk=0.1, delta=0.05, method=method)
        assert found == certified(rows, 0.1, 0.05, method)
    one = coverage_at_risk(
        zeros, errors, scores, risk=0.1, delta=0.05, method="fixed_sequence", n_starts=1
    )
    assert one == certified(rows, 0.1, 0.05, "fixed_sequence", 1)
    plain = coverage_at_risk(zeros, errors, scores, risk=0.1, delta=None)
    assert plain == pytest.approx(empirical(rows, 0.1), nan_ok=True)


def test_coverage_at_risk_of_a_loss_of_ones_own():
    def cost(y_true, y_pred):
        return np.where(y_true > y_pred, 1.0, 0.2) * (y_true != y_pred)

    random = np.random.default_rng(0)
    scores, y_true = random.random(1000), random.integers(0, 2, 1000)
    y_pred = np.where(random.random(1000) < scores**4, 1 - y_true, y_true)
    found = coverage_at_risk(y_true, y_pred, scores, risk=0.1, delta=0.05, loss=cost)
    kept = scores <= found.threshold
    assert found.risk == pytest.approx(cost(y_true, y_pred)[kept].mean())
    assert found.risk < found.bound <= 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ltt"}, "method must be one of 'fixed_sequence'"),
        ({"n_starts": 0}, "n_starts must be an integer of at least 1, got 0"),
        ({"loss": lambda y_true, y_pred: 3.0 * (y_true == y_pred)}, "losses must lie in"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        coverage_at_risk([0, 1], [0, 1], [0, 1], risk=0.5, **options)
